"use strict";
const at = (id) => document.getElementById(id);
const most = Number(document.body.dataset.bytes);
const explains = document.body.dataset.explains === "yes";
const meaning = { // of each method
  attention: "Attention of the last block",
  rollout: "Attention followed through all blocks (rollout), whatever it spoke for",
  relevance: "Attention through all blocks, weighted by what raises the class (relevance)",
  gradcam: "Features weighted by what raises the class (Grad-CAM)",
  ig: "What each pixel adds to the class (integrated gradients)",
};
let turn = 0; // the newest image: answers to older ones come too late
let image = null; // its bytes
let url = null;
let unseen = false; // whether the browser cannot show it, as HEIC, TIFF or arrays
let stream = null;

function say(text) { at("status").textContent = text; }
function fail(text) { at("error").textContent = text; at("error").hidden = !text; }
function percent(p) { return (100 * p).toFixed(1) + " %"; }

async function ask(path, body) {
  let answer;
  try {
    answer = await fetch(path, { method: "POST", body, headers: { "Content-Type": "application/octet-stream" } });
  } catch (error) {
    throw new Error("The server does not answer: has it been stopped?");
  }
  let data = {};
  try { data = await answer.json(); } catch (error) { /* what a proxy says */ }
  if (!answer.ok) throw new Error(data.error || "The server answers " + answer.status + ".");
  return data;
}

async function take(blob, name) {
  const mine = ++turn;
  fail("");
  at("bars").replaceChildren();
  at("unsure").hidden = true;
  if (explains) at("looked").hidden = true;
  at("map").hidden = true;
  image = null;
  show(blob, name);
  if (blob.size > most) {
    say("No answer.");
    fail("This file is too large: " + Math.round(most / 1048576) + " MB are taken.");
    return;
  }
  say("Asking the model ...");
  at("answer").setAttribute("aria-busy", "true");
  try {
    const found = await ask("predict", blob);
    if (mine !== turn) return;
    image = blob;
    draw(found);
    if (explains) await look(mine, found.predictions.map((one) => one.class));
  } catch (error) {
    if (mine !== turn) return;
    if (image === null) say("No answer.");
    fail(error.message);
  } finally {
    if (mine === turn) at("answer").removeAttribute("aria-busy");
  }
}

function show(blob, name) {
  const photo = at("photo");
  if (url) URL.revokeObjectURL(url);
  url = URL.createObjectURL(blob);
  at("shown").hidden = false;
  at("invisible").hidden = true;
  photo.hidden = false;
  photo.classList.remove("small", "under");
  photo.alt = "The image: " + name;
  unseen = false;
  photo.onload = () => {
    photo.classList.toggle("small", Math.max(photo.naturalWidth, photo.naturalHeight) <= 64);
  };
  photo.onerror = () => {
    unseen = true;
    photo.hidden = true;
    at("invisible").hidden = false;
  };
  photo.src = url;
  at("name").textContent = name;
}

function draw(found) {
  for (const one of found.predictions) {
    const row = document.createElement("li");
    const part = (tag, kind, text) => {
      const made = document.createElement(tag);
      made.className = kind;
      made.textContent = text;
      return made;
    };
    const track = part("div", "track", "");
    const fill = part("div", "fill", "");
    track.setAttribute("aria-hidden", "true");
    fill.style.width = 100 * one.probability + "%";
    track.append(fill);
    row.append(part("span", "name", one.class), part("span", "share", percent(one.probability)), track);
    at("bars").append(row);
  }
  at("unsure").hidden = !found.unsure;
  if (found.labels) { // of several labels an image, each is named by a threshold of its own
    say(found.labels.length ? "Labels: " + found.labels.join(", ") : "No label.");
    return;
  }
  const best = found.predictions[0];
  say((found.unsure ? "Unsure; likeliest: " : "") + best.class + ", " + percent(best.probability));
}

async function look(mine, classes) {
  const choice = at("of");
  choice.replaceChildren(new Option("for no class in particular", ""));
  for (const name of classes) choice.append(new Option("for " + name, name));
  const found = await ask(unseen ? "explain?photo" : "explain", image);
  if (mine === turn) lay(found);
}

function offer(maps, chosen) { // a distilled model has a map of each of its tokens
  at("several").hidden = maps.length < 2;
  at("which").replaceChildren(...maps.map((one) => new Option(one || "patches", one, false, one === chosen)));
}

function lay(found) {
  offer(found.maps, found.map);
  if (found.photo) {
    at("photo").src = found.photo;
    at("photo").hidden = false;
    at("invisible").hidden = true;
  }
  const map = at("map");
  const [left, top, right, bottom] = found.box;
  const [width, height] = found.size;
  map.style.left = 100 * left / width + "%";
  map.style.top = 100 * top / height + "%";
  map.style.width = 100 * (right - left) / width + "%";
  map.style.height = 100 * (bottom - top) / height + "%";
  map.src = found.picture;
  map.hidden = false;
  fade();
  at("looked").hidden = false;
  const of = found.class === null ? "" : ", of " + found.class;
  const flat = found.flat === null ? "" : " The map is " + found.flat + ".";
  const how = meaning[found.method] || "By " + found.method;
  at("method").textContent = how + of + ": the brighter, the more." + flat;
}

function fade() {
  const value = at("opacity").value;
  at("map").style.opacity = value / 100;
  at("photo").classList.toggle("under", value > 0); // its own colours would pass for the map's
  at("opacity").setAttribute("aria-valuetext", value + " percent");
}

let asked = 0;
async function again(event) {
  const mine = turn;
  const number = ++asked; // of the newest choice
  const wanted = new URLSearchParams();
  if (at("of").value) wanted.set("class", at("of").value);
  // Another class may have another method, with other maps.
  if (event.target === at("which")) wanted.set("map", at("which").value);
  fail("");
  try {
    const found = await ask("explain?" + wanted, image);
    if (mine === turn && number === asked) lay(found);
  } catch (error) {
    if (mine === turn) fail(error.message);
  }
}

if (explains) {
  at("opacity").addEventListener("input", fade);
  at("of").addEventListener("change", again);
  at("which").addEventListener("change", again);
}

// Choose.
at("choose").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", () => {
  const [file] = at("file").files;
  if (file) take(file, file.name);
  at("file").value = ""; // the same file may be chosen again
});

// Drop.
const holds = (event) => [...event.dataTransfer.types].includes("Files");
document.addEventListener("dragover", (event) => {
  event.preventDefault(); // whatever is dropped, the browser shall not leave the page
  if (holds(event)) at("veil").hidden = false;
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) at("veil").hidden = true;
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  at("veil").hidden = true;
  const [file] = event.dataTransfer.files;
  if (file) take(file, file.name);
  else fail("Drop a file: addresses are not fetched.");
});

// Paste.
document.addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) take(file, file.name || "pasted image");
  else fail("What was pasted is no image: copy the image itself, not its address.");
});

// Camera: browsers offer it to pages of this machine, and to others by https alone.
if (navigator.mediaDevices && navigator.mediaDevices.getUserMedia) at("camera").hidden = false;
at("camera").addEventListener("click", async () => {
  fail("");
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    fail("The camera cannot be used: " + error.name + ".");
    return;
  }
  at("video").srcObject = stream;
  at("live").hidden = false;
  at("shoot").focus();
});
at("shoot").addEventListener("click", () => {
  const video = at("video");
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => { if (blob) take(blob, "picture of the camera"); }, "image/jpeg", 0.95);
});
at("stop").addEventListener("click", () => {
  for (const track of stream.getTracks()) track.stop();
  at("live").hidden = true;
  at("camera").focus();
});

// Examples.
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", async () => {
    const mine = turn;
    try {
      const answer = await fetch("examples/" + button.dataset.example);
      if (!answer.ok) throw new Error("This image cannot be read any more.");
      const blob = await answer.blob();
      if (mine === turn) take(blob, button.textContent.trim());
    } catch (error) {
      fail(error instanceof TypeError ? "The server does not answer: has it been stopped?" : error.message);
    }
    at("status").scrollIntoView({ block: "nearest" });
  });
}

at("curl").textContent = "curl --data-binary @photo.jpg " + location.origin + "/predict";

"""A classifier of Ultralytics, saved by its own method: the file holds the module itself."""

from ultralytics import YOLO

YOLO("yolov8n-cls.yaml", task="classify").save("weights.pt")

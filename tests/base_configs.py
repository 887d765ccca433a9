"""The configs that tests start from, each with its purpose."""

MINIMAL = """
model: {name: vit_ti, patch_size: 2}
data: {name: digits, image_size: 8}
optimizer: {name: adamw, lr: 1e-3}
train: {epochs: 1}
"""
"""Only what has no default; the model stands in the second line."""

BENCH_RUN = """\
model: {name: vit_ti, patch_size: 4, embed_dim: 16, depth: 1, num_heads: 1}
data: {name: digits, image_size: 8}
augment: {crop_padding: 1}
optimizer: {name: adamw, lr: 1e-3}
schedule: {name: cosine, warmup_epochs: 1}
train: {epochs: 3, batch_size: 100, ema_decay: 0.9, precision: fp32, device: cpu}
logging: {tensorboard: false}
"""
"""Real images, and every part that `bench` times."""

UNEVEN_RUN = """\
seed: 0
model: {name: vit_ti, patch_size: 4, embed_dim: 32, depth: 2, num_heads: 2}
data: {name: fake, image_size: 16, size: 16, num_classes: 4, num_images: 70}
augment: {crop_padding: 2, mixup: 0.8, cutmix: 1.0}
optimizer: {name: sgd, lr: 0.1, nesterov: true, weight_decay: 0.05}
schedule: {name: cosine, warmup_epochs: 1}
train:
  epochs: 7
  batch_size: 27
  precision: fp32
  ema_decay: 0.9
  grad_clip_norm: 0.5
  accum_steps: 2
checkpoint: {keep: 9}
logging: {every_steps: 5, tensorboard: false}
"""
"""21 steps; each epoch's last batch has 16 images, and neither that nor 27 divides evenly."""

LONG_RUN = """\
seed: 0
model: {name: vit_ti, patch_size: 4, embed_dim: 32, depth: 2, num_heads: 2}
data: {name: fake, image_size: 16, size: 16, num_classes: 4, num_images: 64}
optimizer: {name: adamw, lr: 1e-3}
train: {epochs: 40, batch_size: 16, device: cpu, precision: fp32}
logging: {tensorboard: false}
"""
"""160 steps, so that a signal finds it running."""

SPEED_RUN = """\
model: {name: vit_ti, patch_size: 4, depth: 4}
data: {name: fake, num_images: 640, image_size: 32}
optimizer: {name: adamw, lr: 1e-3}
schedule: {name: cosine, warmup_epochs: 1}
train: {epochs: 3, batch_size: 64, device: cpu}
"""
"""Large enough that its speed is the model's."""

EVERY_SECTION = """\
seed: 0
model: {name: vit_ti, patch_size: 4, embed_dim: 16, depth: 2, num_heads: 2}
data: {name: fake, image_size: 16, size: 16, num_classes: 4, num_images: 64}
augment: {policy: {name: trivialaugment_wide}}
optimizer: {name: adamw, lr: 1e-3}
schedule: {name: cosine}
train:
  epochs: 4
  batch_size: 16
  early_stopping: {metric: val/top1, mode: max, patience: 3}
  distillation: {teacher: runs/teacher, kind: soft}
checkpoint: {}
logging: {}
"""
"""A run that has every section and every optional part."""

SMALL_RUN = """\
seed: 0
model: {name: vit_ti, patch_size: 4, embed_dim: 32, depth: 2, num_heads: 2}
data: {name: fake, image_size: 16, size: 16, num_classes: 4, num_images: 70}
augment: {crop_padding: 2}
optimizer: {name: adamw, lr: 1e-3}
schedule: {name: cosine, warmup_epochs: 1}
train: {epochs: 2, batch_size: 32, ema_decay: 0.9, precision: fp32}
logging: {every_steps: 2, tensorboard: false}
"""
"""A run of six steps, three in each epoch, that takes less than a second."""

FAULT_RUN = """\
seed: 3
model: {name: vit_ti, patch_size: 4, embed_dim: 16, depth: 1, num_heads: 2, drop_rate: 0.1}
data: {name: fake, image_size: 8, num_classes: 4, num_images: 45, size: 8}
augment: {mixup: 0.2, cutmix: 0.2}
optimizer: {name: adamw, lr: 1e-2}
schedule: {name: cosine, warmup_epochs: 1}
train:
  {epochs: 3, batch_size: 8, ema_decay: 0.9, device: cpu, precision: fp32,
   early_stopping: {metric: val/loss, mode: min, patience: 100}}
checkpoint: {every_steps: 2}
logging: {every_steps: 3, tensorboard: false}
"""
"""18 steps, metrics of every third and a checkpoint after every second."""

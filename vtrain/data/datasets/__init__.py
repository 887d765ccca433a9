"""Where images come from: folders, lists, shards, torchvision's sets, and how they are split."""

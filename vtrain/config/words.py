"""What other programs call a key: timm, Ultralytics, torchvision, Lightning, Hugging Face."""

_KEYS = {
    "optimizer.lr": "learning_rate learningrate base_lr lr0 blr init_lr initial_lr max_lr",
    "optimizer.weight_decay": "wd weightdecay decay l2",
    "optimizer.name": "opt optim optimizer_name",
    "optimizer.betas": "beta1 beta2 opt_betas adam_beta1 adam_beta2",
    "optimizer.eps": "opt_eps epsilon adam_epsilon",
    "optimizer.layer_decay": "layerwise_decay llrd lr_layer_decay layer_wise_lr_decay",
    "optimizer": "optimiser",
    "schedule.name": "sched cos_lr lr_schedule lr_scheduler_type scheduler_name",
    "schedule": "scheduler lr_scheduler",
    "schedule.warmup_epochs": "warmup warm_up warmup_epoch warmup_ratio num_warmup_epochs",
    "schedule.warmup_steps": "warmup_iters num_warmup_steps warmup_updates",
    "schedule.floor": "min_lr lrf eta_min final_lr lr_min",
    "train.epochs": "epoch num_epochs n_epochs max_epochs total_epochs num_train_epochs nepochs ep",
    "train.batch_size": "batch bs batchsize train_batch_size per_device_train_batch_size",
    "train.eval_batch_size": "val_batch_size test_batch_size per_device_eval_batch_size",
    "train.eval_every": "val_every eval_interval val_interval check_val_every_n_epoch eval_freq",
    "train.max_steps": "steps iterations iters max_iter max_iters num_steps total_steps",
    "train.max_minutes": "time max_time time_limit",
    "train.accum_steps": "grad_accum accumulate accumulation_steps grad_accum_steps accum_iter "
    "gradient_accumulation_steps accumulate_grad_batches update_freq",
    "train.grad_clip_norm": "clip_grad grad_clip clip max_grad_norm max_norm gradient_clip_val "
    "clip_grad_norm",
    "train.precision": "amp mixed_precision fp16 bf16 half use_amp amp_dtype dtype",
    "train.device": "gpu gpu_id cuda accelerator device_id",
    "train.ema_decay": "ema model_ema model_ema_decay use_ema",
    "train.compile": "torchcompile torch_compile",
    "train.activation_checkpointing": "grad_checkpointing gradient_checkpointing use_checkpoint "
    "checkpointing",
    "train.early_stopping": "early_stop earlystopping",
    "train.early_stopping.patience": "patience",
    "train.loss.name": "criterion loss_fn loss_function loss_name",
    "train.loss.label_smoothing": "smoothing smooth ls label_smooth label_smoothing_factor",
    "train.distillation.teacher": "teacher_model kd distill distil",
    "train": "training trainer",
    "data": "dataset datasets dataloader",
    "data.name": "dataset_name data_name dataset_type",
    "data.root": "path dir folder data_path data_dir data_root dataset_path dataset_dir datadir "
    "train_dir images_dir",
    "data.num_workers": "workers num_worker dataloader_num_workers n_workers nworkers",
    "data.image_size": "img_size imgsz imgsize input_size img image_sz resolution crop_size size "
    "train_crop_size",
    "data.channels": "in_channels in_chans num_channels input_channels bands num_bands n_channels",
    "data.val_fraction": "val_split valid_split val_size test_size validation_split val_ratio "
    "split_ratio val_percent",
    "data.interpolation": "train_interpolation resample",
    "data.crop_fraction": "crop_pct",
    "data.fold": "folds kfold k_fold",
    "data.balanced": "balance oversample class_balanced weighted_sampler",
    "data.cache": "cache_images in_memory",
    "model": "network net architecture",
    "model.name": "model_name arch backbone architecture_name model_type",
    "model.pretrained": "weights init initial_checkpoint finetune pretrained_path resume_from",
    "model.drop_path_rate": "drop_path droppath stochastic_depth drop_connect drop_path_prob "
    "stochastic_depth_prob",
    "model.drop_rate": "drop dropout dropout_rate hidden_dropout_prob",
    "model.patch_size": "patch patchsize",
    "model.embed_dim": "hidden_size hidden_dim dim width embed_size",
    "model.depth": "num_layers layers num_hidden_layers depths",
    "model.num_heads": "heads num_attention_heads n_heads",
    "model.freeze": "freeze_backbone frozen freeze_layers linear_probe",
    "model.lora": "peft lora_config use_lora adapter adapters",
    "model.lora.rank": "lora_rank lora_r",
    "model.lora.alpha": "lora_alpha",
    "augment": "augmentation augmentations transforms aug",
    "augment.policy": "aa auto_augment autoaugment rand_augment randaugment randaug rand_aug ra "
    "trivialaugment trivial_augment augmix",
    "augment.mixup": "mixup_alpha mix_up",
    "augment.cutmix": "cutmix_alpha cut_mix",
    "augment.mix_probability": "mixup_prob mixup_p",
    "augment.mix_switch_probability": "mixup_switch_prob",
    "augment.mix_off_epoch": "mixup_off_epoch close_mosaic",
    "augment.erasing": "reprob random_erase random_erasing random_erasing_prob cutout",
    "augment.erasing_value": "remode",
    "augment.horizontal_flip": "hflip fliplr hflip_prob flip random_flip",
    "augment.vertical_flip": "vflip flipud vflip_prob",
    "augment.brightness": "color_jitter colour_jitter jitter hsv_v",
    "augment.saturation": "hsv_s",
    "augment.hue": "hsv_h",
    "augment.grey": "grayscale greyscale gray grayscale_prob",
    "augment.blur": "gaussian_blur",
    "augment.crop_scale": "scale rrc_scale",
    "augment.crop_ratio": "ratio aspect_ratio",
    "checkpoint.every_minutes": "save_every save_freq save_period checkpoint_every save_interval",
    "checkpoint.every_steps": "save_steps checkpoint_steps",
    "checkpoint.keep": "save_total_limit checkpoint_hist save_top_k keep_last",
    "checkpoint.best_metric": "metric monitor metric_for_best_model eval_metric best",
    "logging.every_steps": "log_interval log_every log_freq logging_steps log_every_n_steps "
    "print_freq",
    "logging.tensorboard": "tb use_tensorboard report_to logger",
    "logging": "log logs",
    "seed": "random_seed random_state manual_seed seed_everything rng",
}
PEERS_WORDS = {word: key for key, words in _KEYS.items() for word in words.split()}
"""Another program's word -> the key that means it."""

SEVERAL = "for N of them type torchrun --nproc-per-node=N --no-python vtrain fit CONFIG"
_OPTIONS = {
    "name the run's folder on the command line, as --run-dir DIR": "output output_dir out_dir "
    "save_dir run_dir project experiment exp_name log_dir logdir workdir work_dir",
    "add --resume to the command line": "resume resume_from_checkpoint auto_resume",
    "the dataset says how many there are; a list or folders name them": "num_classes nb_classes nc "
    "n_classes classes num_labels",
    f"train.device takes one GPU; {SEVERAL}": "gpus devices world_size num_gpus ngpus n_gpu nproc "
    "nproc_per_node num_processes nnodes num_nodes distributed strategy ddp sync_bn local_rank",
    "vtrain writes metrics.jsonl and TensorBoard's files, which W&B and MLflow can read": "wandb "
    "mlflow comet use_wandb log_wandb",
    "name the checkpoint on the command line, as --ckpt CKPT": "ckpt checkpoint_path",
}
_REPORTED = (
    "per_class confusion confusion_matrix roc roc_auc auc precision_recall pr_curve f1 f1_score "
    "recall classification_report calibration ece mistakes errors worst top_losses plots plot"
)
REPORTED = frozenset(_REPORTED.split())
"""What other programs call what `vtrain report` shows."""
_OPTIONS["`vtrain report RUN` shows that of a run"] = _REPORTED
NO_KEYS = {word: text for text, words in _OPTIONS.items() for word in words.split()}
"""Another program's word -> where vtrain has that, if not in the config."""

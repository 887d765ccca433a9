"""The fault matrix: what can go wrong, how much it matters, and the tests that show what happens.

Priority 0 must hold at every release. A row without a test stands in `MISSING` with the reason;
`test_matrix.py` holds that no row of priority 0 is in neither place.
"""

from dataclasses import dataclass

DATA, ENGINE, FILES = "data/test_", "engine/test_", "files/test_"
SAVING, RUNNING, ROWS = (f"faults/test_{name}.py::" for name in ("saving", "running", "rows"))
HOSTILE = "faults/test_hostile_checkpoints.py::test_a_hostile_file_is_refused_in_one_line"
HOSTILE += "_and_runs_nothing"
EVERY_COMMAND = "faults/test_hostile_checkpoints.py"
EVERY_COMMAND += "::test_every_command_refuses_it_with_exit_code_4_and_loses_nothing"
CHECKPOINTS = FILES + "container.py::test_"
KEEPER = FILES + "store.py::test_"
ATOMIC, LOCK = FILES + "atomic.py::test_", FILES + "lock.py::test_"
YAML, CONFIG, CLI = FILES + "yaml.py::test_", "test_config.py::test_", "test_cli.py::test_"
FOLDER = "data/datasets/test_folder.py::test_"
LOADER = "data/loading/test_loader.py::test_"
UNREADABLE = "data/loading/test_unreadable.py::test_"
WORKERS = "data/loading/test_workers.py::test_"
TORCHVISION = "data/datasets/test_torchvision.py::test_"
BROKEN = DATA + "faults.py::test_a_fault_ends_fit_in_one_line_and_the_run_goes_on_when_it_is_mended"
HARMLESS = DATA + "faults.py::test_what_is_harmless_is_told_and_ends_nothing"
PREDICTED = DATA + "faults.py::test_a_bad_image_is_named_by_predict_and_the_others_are_predicted"
ONE_DECODER = "run/test_one_decoder.py::test_fit_eval_and_predict_give_identical_logits"
ONE_DECODER += "_for_unusual_files"
IMAGES, RANKS = FILES + "images.py::test_", "test_distributed.py::test_"
GUARD = "optim/test_gradients.py::test_"
SIGNAL = RUNNING + "test_a_signal_stops_the_run_at_a_step_that_is_saved"
TWO_RANKS = RUNNING + "test_two_ranks_stop_at_the_same_step_whichever_gets_the_signal"


@dataclass(frozen=True)
class Row:
    """A fault, its priority (0: blocks a release), and the tests that provoke it."""

    priority: int
    fault: str
    tests: tuple[str, ...]


def row(priority: int, fault: str, *tests: str) -> Row:
    return Row(priority, fault, tests)


MATRIX = {
    # A: writing
    "A1": row(
        0,
        "SIGKILL at any instant of a save",
        SAVING + "test_killed_at_any_system_call_nothing_is_lost",
        RUNNING + "test_a_run_killed_at_random_ends_in_the_same_bits",
    ),
    "A2": row(
        0,
        "SIGKILL between checkpoint, manifest and last.pt",
        KEEPER + "killed_between_any_two_changes_the_newest_is_found_and_the_next_save_repairs",
    ),
    "A3": row(
        0,
        "temporary files of killed processes",
        ROWS + "TestA::test_leftovers_of_kills_are_swept_at_the_next_start",
        ATOMIC + "sweeping_removes_what_killed_processes_left_and_only_that",
    ),
    "A4": row(
        0,
        "disk full during a save",
        ROWS + "TestA::test_a_full_disk_ends_the_run_with_what_is_needed_and_free",
        RUNNING + "test_a_run_without_space_says_so_and_keeps_what_it_has",
        SAVING + "test_without_space_all_earlier_checkpoints_stay",
        SAVING + "test_fifty_sizes_of_a_full_disk_leave_all_earlier_checkpoints",
    ),
    "A5": row(
        0,
        "disk full while writing TensorBoard",
        ROWS + "TestA::test_training_goes_on_without_tensorboard_if_its_disk_is_full",
    ),
    "A6": row(
        1,
        "disk full while writing status or log",
        RUNNING + "test_a_full_log_does_not_hide_why_a_run_ended",
    ),
    "A7": row(
        0,
        "run folder not writable",
        ROWS + "TestA::test_a_read_only_place_is_named_before_anything_is_built",
    ),
    "A8": row(
        0,
        "run folder or its parent is a file",
        ROWS + "TestA::test_a_run_folder_under_or_at_a_file_is_refused",
    ),
    "A9": row(
        0,
        "run folder holds a finished run",
        CLI + "a_run_folder_that_holds_a_run_is_not_written_again",
    ),
    "A10": row(
        0,
        "two runs started in one folder",
        RUNNING + "test_of_two_starters_in_one_folder_one_runs",
        RUNNING + "test_of_many_starters_in_one_folder_one_runs",
    ),
    "A11": row(
        0,
        "owner of the lock killed",
        ROWS + "TestA::test_the_lock_of_a_killed_run_is_free",
        LOCK + "a_forked_worker_does_not_keep_the_lock_of_its_dead_parent",
    ),
    "A12": row(
        0,
        "launcher dead, its workers alive",
        ROWS + "TestA::test_while_a_rank_of_a_dead_launcher_lives_nobody_else_writes",
    ),
    "A13": row(
        2,
        "file system without locks",
        LOCK + "where_there_are_no_locks_a_warning_asks_for_care",
    ),
    "A14": row(
        0,
        "temporary folder on another file system",
        "test_security.py::test_no_file_does_what_it_may_not",
        ATOMIC + "until_the_end_of_the_block_the_old_content_stays",
    ),
    "A15": row(
        1,
        "fsync fails",
        ATOMIC + "what_fsync_reports_is_believed",
        SAVING + "test_whatever_call_fails_the_save_fails_with_one_line_or_succeeds",
    ),
    "A16": row(
        2,
        "folders cannot be synced",
        ATOMIC + "a_file_system_that_cannot_sync_folders_is_only_warned_about",
    ),
    "A17": row(
        1,
        "run folder deleted during training",
        KEEPER + "a_folder_that_vanished_is_made_again_and_reported",
    ),
    "A18": row(
        1,
        "an old checkpoint cannot be removed",
        KEEPER + "what_cannot_be_removed_is_tried_again_later",
    ),
    "A19": row(
        0,
        "pruning would remove the best or the last intact one",
        KEEPER + "best_stays_while_last_moves_on",
        KEEPER + "only_files_of_the_manifest_are_ever_removed",
        KEEPER + "killed_between_any_two_changes_the_newest_is_found_and_the_next_save_repairs",
    ),
    "A20": row(
        2,
        "quota used up",
        SAVING + "test_whatever_call_fails_the_save_fails_with_one_line_or_succeeds",
    ),
    "A21": row(1, "clock jumps", KEEPER + "order_is_by_step_and_never_by_time"),
    "A22": row(
        0,
        "odd characters in the run folder's name",
        CLI + "strange_run_folders_work",
        ATOMIC + "any_name_that_the_system_allows_works",
        ROWS + "TestA::test_a_run_folder_may_have_any_name_and_messages_show_it_safely",
    ),
    "A23": row(2, "name too long", ATOMIC + "each_wrong_place_has_its_own_message"),
    "A24": row(
        0,
        "planted symlink at last.pt",
        KEEPER + "a_planted_link_at_last_is_replaced_and_its_target_untouched",
        ATOMIC + "a_planted_symlink_is_replaced_and_its_target_untouched",
        ROWS + "TestA::test_a_planted_link_is_replaced_and_what_it_points_to_stays",
        ROWS + "TestA::test_no_log_is_written_through_a_planted_link",
    ),
    "A25": row(
        2,
        "umask",
        ATOMIC + "a_file_gets_the_permissions_of_the_umask_and_nobody_else_may_write",
    ),
    "A26": row(1, "save slower than its interval"),
    # B: resume
    "B1": row(
        0,
        "kill anywhere and resume",
        RUNNING + "test_a_run_killed_at_random_ends_in_the_same_bits",
        RUNNING + "test_forgetting_any_item_of_the_state_would_be_noticed",
    ),
    "B2": row(
        0,
        "kill within an epoch, in validation, at its end, at the start, at the end",
        RUNNING + "test_fifteen_random_kills_change_nothing",
        ENGINE + "trainer.py::test_a_stopped_run_goes_on_as_if_nothing_had_happened",
    ),
    "B3": row(0, "resume a finished run", ROWS + "TestB::test_a_finished_run_is_left_as_it_is"),
    "B4": row(1, "resume for more epochs"),
    "B5": row(
        0,
        "config differs from the checkpoint's",
        ROWS + "TestB::test_a_change_that_changes_the_result_is_refused_by_name",
        CLI + "a_changed_config_does_not_resume_a_run",
    ),
    "B6": row(
        0,
        "number of processes changed",
        ROWS + "TestB::test_the_number_of_processes_may_change_between_restarts",
        LOADER + "batches_are_slices_of_the_permutation_and_ranks_share_them",
        "run/test_fit.py::test_a_restart_on_other_versions_goes_on_and_says_so",
    ),
    "B7": row(1, "global batch not divisible by the processes"),
    "B8": row(
        0,
        "number of workers changed",
        LOADER + "workers_and_caches_change_no_bit",
        RUNNING + "test_a_run_killed_at_random_ends_in_the_same_bits",
    ),
    "B9": row(1, "resume on another kind of device"),
    "B10": row(1, "precision switched at a resume"),
    "B11": row(
        0,
        "checkpoint of another version",
        ROWS + "TestB::test_a_checkpoint_of_a_newer_vtrain_is_refused",
        KEEPER + "a_checkpoint_of_a_newer_vtrain_is_not_fallen_back_from",
        "run/test_fit.py::test_a_restart_on_other_versions_goes_on_and_says_so",
    ),
    "B12": row(
        0,
        "dataset changed",
        ROWS + "TestB::test_changed_images_are_refused_unless_that_is_accepted",
        ROWS + "TestB::test_other_classes_are_refused_and_named",
        "data/inspect/test_fingerprint.py::test_any_change_of_the_files_is_noticed_and_may_be_accepted",
    ),
    "B13": row(
        0,
        "best metric after a resume",
        "callbacks/test_saver.py::test_a_worse_value_after_a_resume_does_not_replace_the_best",
    ),
    "B14": row(
        0,
        "metric is no number",
        KEEPER + "a_metric_that_is_no_number_is_never_the_best",
        "callbacks/test_saver.py::test_best_is_the_first_of_the_best_finite_values",
    ),
    "B15": row(
        2,
        "tie on the best metric",
        "callbacks/test_saver.py::test_best_is_the_first_of_the_best_finite_values",
    ),
    "B16": row(
        1,
        "TensorBoard after a resume",
        "callbacks/test_outputs.py::"
        "test_tensorboard_holds_one_value_for_each_step_also_after_a_resume",
    ),
    "B17": row(
        1,
        "running means across a kill",
        RUNNING + "test_forgetting_any_item_of_the_state_would_be_noticed",
    ),
    "B18": row(
        0,
        "--resume without a run",
        ROWS + "TestB::test_resume_without_a_run_is_a_fresh_start",
    ),
    "B19": row(
        1,
        "two checkpoints of one step",
        KEEPER + "saving_twice_at_one_step_keeps_both_under_their_own_names",
    ),
    "B20": row(1, "operation without a deterministic form"),
    # C: reading checkpoints
    "C1": row(
        0,
        "missing, folder, unreadable, pipe, device",
        CHECKPOINTS + "special_files_are_refused_at_once",
        ROWS + "TestC::test_each_wrong_kind_of_checkpoint_is_one_line",
    ),
    "C2": row(
        0,
        "empty, text, HTML, LFS pointer, image",
        HOSTILE,
        EVERY_COMMAND,
    ),
    "C3": row(
        0,
        "truncated at any length",
        CHECKPOINTS + "every_truncation_is_found",
        SAVING + "test_a_truncated_newest_is_passed_over",
        ROWS + "TestC::test_each_kind_of_damage_is_exit_code_4",
    ),
    "C4": row(
        0,
        "a flipped bit anywhere",
        SAVING + "test_a_thousand_flipped_bits_are_found",
        ROWS + "TestC::test_a_damaged_newest_is_passed_over_and_the_end_is_the_same",
        ROWS + "TestC::test_each_kind_of_damage_is_exit_code_4",
    ),
    "C5": row(
        0,
        "lost or swapped pages, trailing bytes",
        CHECKPOINTS + "lost_and_swapped_pages_are_found",
        CHECKPOINTS + "bytes_after_the_end_or_before_the_start_are_found",
        ROWS + "TestC::test_each_kind_of_damage_is_exit_code_4",
    ),
    "C6": row(
        0,
        "malicious pickle",
        HOSTILE,
        "faults/test_hostile_checkpoints.py::test_the_corpus_is_sharp",
        "faults/test_hostile_checkpoints.py::test_no_process_and_no_connection_is_started",
        EVERY_COMMAND,
    ),
    "C7": row(
        0,
        "TorchScript, pt2, ONNX, zip, Keras, NumPy",
        HOSTILE,
        EVERY_COMMAND,
    ),
    "C8": row(
        0,
        "name of another format",
        CHECKPOINTS + "the_content_decides_and_not_the_name",
        ROWS + "TestC::test_the_content_of_a_checkpoint_decides_and_not_its_name",
    ),
    "C9": row(
        0,
        "zip bomb",
        HOSTILE,
        EVERY_COMMAND,
    ),
    "C10": row(
        0,
        "tensor of a terabyte by stride 0",
        HOSTILE,
        EVERY_COMMAND,
    ),
    "C11": row(
        1,
        "deep, cyclic or doubling lists",
        HOSTILE,
        EVERY_COMMAND,
    ),
    "C12": row(
        0,
        "missing, unexpected or reshaped weights",
        ROWS + "TestC::test_weights_that_do_not_fit_are_counted",
        ROWS + "TestC::test_a_hostile_description_of_the_model_is_refused",
    ),
    "C13": row(
        0,
        "data of another number of classes",
        ROWS + "TestC::test_data_of_other_classes_is_refused_with_both_counts",
    ),
    "C14": row(
        0,
        "same classes in another order",
        CLI + "eval_maps_classes_by_name",
        ROWS + "TestC::test_classes_that_have_other_numbers_in_the_data_are_told_apart_by_name",
    ),
    "C15": row(
        0,
        "hostile description of the model",
        ROWS + "TestC::test_a_hostile_description_of_the_model_is_refused",
        ROWS + "TestC::test_a_model_of_absurd_depth_is_refused_before_it_is_built",
    ),
    "C16": row(1, "weights that are not numbers"),
    "C17": row(1, "optimizer state of other parameters"),
    "C18": row(
        1,
        "weights alone given to --resume",
        ROWS + "TestB::test_weights_alone_are_no_run_to_go_on_with",
    ),
    "C19": row(
        1,
        "prefixes of wrappers",
        "models/weights/test_pretrained.py::test_prefixes_of_wrappers_are_removed",
    ),
    "C20": row(
        0,
        "checkpoint of a GPU on a CPU",
        CHECKPOINTS + "a_checkpoint_that_says_cuda_loads_where_there_is_none",
    ),
    "C21": row(
        1,
        "file changed while it is read",
        CHECKPOINTS + "a_file_that_is_cut_while_it_is_read_is_an_error_and_no_crash",
    ),
    "C22": row(
        0,
        "manifest has another checksum",
        CHECKPOINTS + "with_a_manifest_beside_it_every_flipped_bit_is_found",
        KEEPER + "another_checkpoint_under_the_same_name_is_found_by_its_checksum",
        ROWS + "TestC::test_a_checkpoint_that_its_manifest_does_not_know_is_passed_over",
    ),
    "C23": row(
        0,
        "manifest with paths",
        FILES + "container.py::TestManifest::test_only_plain_names_are_accepted",
        ROWS + "TestC::test_a_manifest_that_names_other_places_is_refused",
    ),
    "C24": row(
        0,
        "all checkpoints damaged",
        ROWS + "TestC::test_if_every_checkpoint_is_damaged_the_run_does_not_start_anew",
        KEEPER + "if_all_are_damaged_nothing_starts_anew",
    ),
    "C25": row(
        0,
        "URL as checkpoint",
        ROWS + "TestC::test_each_wrong_kind_of_checkpoint_is_one_line",
    ),
    # D: config and command line
    "D1": row(
        0,
        "file missing, folder, binary, other encodings",
        YAML + "a_missing_file_and_a_folder_are_named",
        YAML + "a_file_that_is_no_small_text_is_refused",
        YAML + "a_byte_order_mark_is_read_over",
        ROWS + "TestD::test_a_file_that_is_no_config_is_exit_code_2_and_runs_nothing",
    ),
    "D2": row(
        0,
        "syntax error",
        YAML + "what_is_no_config_is_one_clear_error",
        ROWS + "TestD::test_a_file_that_is_no_config_is_exit_code_2_and_runs_nothing",
    ),
    "D3": row(
        0,
        "empty, list, scalar, two documents",
        YAML + "what_is_no_config_is_one_clear_error",
        ROWS + "TestD::test_a_file_that_is_no_config_is_exit_code_2_and_runs_nothing",
    ),
    "D4": row(
        0,
        "unknown key",
        CONFIG + "all_mistakes_are_reported_at_once_with_their_lines",
        CLI + "a_misspelt_key_is_one_line_with_place_and_suggestion",
        ROWS + "TestD::test_a_wrong_value_is_exit_code_2_and_names_its_key",
    ),
    "D5": row(
        0,
        "key twice",
        YAML + "every_repeated_key_is_a_mistake_with_both_lines",
        ROWS + "TestD::test_a_file_that_is_no_config_is_exit_code_2_and_runs_nothing",
    ),
    "D6": row(
        0,
        "1e-3",
        YAML + "a_scalar_means_what_it_says",
        ROWS + "TestD::test_numbers_in_yaml_mean_what_they_say",
    ),
    "D7": row(
        0,
        "YAML's scalars",
        YAML + "a_scalar_means_what_it_says",
        ROWS + "TestD::test_a_wrong_value_is_exit_code_2_and_names_its_key",
    ),
    "D8": row(
        0,
        "wrong type",
        CONFIG + "a_value_out_of_range_or_type_is_refused",
        ROWS + "TestD::test_a_list_of_the_wrong_length_or_type_is_a_mistake",
        ROWS + "TestD::test_a_wrong_value_is_exit_code_2_and_names_its_key",
    ),
    "D9": row(
        0,
        "value out of range",
        CONFIG + "a_value_out_of_range_or_type_is_refused",
        ROWS + "TestD::test_a_wrong_value_is_exit_code_2_and_names_its_key",
    ),
    "D10": row(
        0,
        "impossible combinations",
        "models/test_vit.py::test_values_that_do_not_fit_together_are_refused",
        "optim/test_schedules.py::test_a_warm_up_as_long_as_the_run_is_refused",
        ROWS + "TestD::test_values_that_contradict_each_other_are_both_named",
    ),
    "D11": row(
        0,
        "unknown or dotted name",
        CONFIG + "a_name_is_looked_up_and_never_imported_or_expanded",
        ROWS + "TestD::test_a_wrong_value_is_exit_code_2_and_names_its_key",
    ),
    "D12": row(
        0,
        "code in a config",
        YAML + "anchors_aliases_and_tags_are_mistakes",
        CONFIG + "a_name_is_looked_up_and_never_imported_or_expanded",
        "faults/test_fuzz.py::test_damaged_configs_are_mistakes_or_configs",
        ROWS + "TestD::test_a_file_that_is_no_config_is_exit_code_2_and_runs_nothing",
    ),
    "D13": row(
        0,
        "alias bomb, deep nesting, huge file",
        YAML + "anchors_aliases_and_tags_are_mistakes",
        YAML + "a_file_that_is_no_small_text_is_refused",
        YAML + "what_is_no_config_is_one_clear_error",
        ROWS + "TestD::test_a_file_that_is_no_config_is_exit_code_2_and_runs_nothing",
    ),
    "D14": row(
        0,
        "wrong override",
        CONFIG + "what_is_no_override_is_refused",
        ROWS + "TestD::test_a_wrong_value_is_exit_code_2_and_names_its_key",
    ),
    "D15": row(0, "wrong usage", CLI + "each_mistake_is_one_line_with_its_exit_code"),
    "D16": row(1, "relative paths", CONFIG + "relative_data_paths_no_longer_depend_on_the_folder"),
    "D17": row(1, "config changed during the run"),
    "D18": row(0, "odd terminals and closed streams", CLI + "a_closed_pipe_is_no_error"),
    "D19": row(1, "Ctrl-C during imports"),
    # E: dataset folders
    "E1": row(
        0,
        "root missing, file, empty, other layout",
        FOLDER + "a_root_of_another_layout_is_refused_with_the_expected_one",
        BROKEN,
        DATA + "faults.py::test_what_may_not_be_read_is_named",
    ),
    "E2": row(
        0, "one class only", FOLDER + "training_on_one_class_is_refused_but_not_evaluating", BROKEN
    ),
    "E3": row(0, "empty class", FOLDER + "an_empty_training_class_is_refused", BROKEN),
    "E4": row(
        0, "hidden folders", FOLDER + "hidden_folders_and_files_are_ignored_and_counted", HARMLESS
    ),
    "E5": row(
        0, "validation lacks a class", FOLDER + "validation_classes_are_matched_by_name", HARMLESS
    ),
    "E6": row(
        0, "validation has another class", FOLDER + "an_unknown_validation_class_is_refused", BROKEN
    ),
    "E7": row(
        1,
        "names that differ by case",
        FOLDER + "names_that_differ_by_case_or_accents_only_are_told",
    ),
    "E8": row(1, "numeric names", FOLDER + "the_order_of_numeric_names_is_told"),
    "E9": row(0, "loop of links", FOLDER + "loops_of_links_add_no_image", HARMLESS),
    "E10": row(
        0,
        "broken or outside link",
        FOLDER + "a_broken_link_is_a_bad_image",
        FOLDER + "a_linked_file_out_of_the_root_is_refused",
        BROKEN,
        PREDICTED,
    ),
    "E11": row(
        2,
        "same image twice",
        "data/inspect/test_scan.py::test_exact_duplicates_are_found_within_and_across_splits_and_classes",
    ),
    "E12": row(1, "other files", FOLDER + "other_files_are_ignored_and_counted_by_ending"),
    "E13": row(1, "upper-case ending", FOLDER + "endings_count_in_either_case"),
    "E14": row(
        0,
        "odd names",
        FOLDER + "any_name_works_and_is_shown_safely",
        DATA + "faults.py::test_a_bad_image_with_an_odd_name_is_one_printable_line",
    ),
    "E15": row(
        0,
        "file vanishes after the scan",
        UNREADABLE + "a_file_that_vanishes_is_a_bad_image",
        DATA + "faults.py::test_a_file_that_vanishes_after_the_scan_is_a_bad_image",
    ),
    "E16": row(
        0,
        "no permission",
        FOLDER + "a_folder_without_permission_is_named",
        IMAGES + "a_file_without_permission_is_named",
        DATA + "faults.py::test_what_may_not_be_read_is_named",
    ),
    "E17": row(
        0,
        "fewer samples than a batch or ranks",
        LOADER + "datasets_smaller_than_a_batch_or_the_ranks_are_complete",
        DATA + "faults.py::test_few_images_and_a_last_batch_of_one_train",
    ),
    "E18": row(
        0,
        "label out of range",
        TORCHVISION + "a_class_out_of_range_is_refused",
        "data/augment/test_mixing.py::test_a_target_that_is_no_class_is_refused",
        DATA + "faults.py::test_a_label_that_is_no_class_is_refused_before_training",
    ),
    "E19": row(
        0,
        "set absent, partial, no network",
        TORCHVISION + "an_absent_dataset_is_one_line_and_nothing_is_written",
        TORCHVISION + "a_download_without_network_is_one_line",
        TORCHVISION + "a_half_extracted_dataset_is_refused",
        DATA + "faults.py::test_an_absent_dataset_is_one_line_with_the_way_out",
    ),
    "E20": row(1, "two downloads at once", TORCHVISION + "two_downloads_take_turns"),
    "E21": row(1, "a million files"),
    "E22": row(
        0,
        "hostile pickle as CIFAR batch",
        TORCHVISION + "a_hostile_pickle_in_place_of_a_cifar_batch_is_refused_unread",
        DATA + "faults.py::test_a_hostile_pickle_among_the_files_of_a_dataset_is_never_opened",
    ),
    # F: images
    "F1": row(
        0,
        "no image",
        IMAGES + "what_is_no_image_is_refused_and_said_what_it_looks_like",
        BROKEN,
        PREDICTED,
    ),
    "F2": row(
        0,
        "truncated or damaged",
        IMAGES + "mutated_files_end_in_an_image_or_one_clear_error",
        "faults/test_fuzz.py::test_damaged_images_are_decoded_or_refused",
        BROKEN,
        PREDICTED,
        DATA + "faults.py::test_a_bad_validation_image_ends_eval_and_leaves_the_checkpoints",
    ),
    "F3": row(2, "damaged JPEG that still decodes"),
    "F4": row(
        0,
        "header of a huge image",
        IMAGES + "a_header_that_declares_a_huge_image_is_refused_before_decoding",
        BROKEN,
        PREDICTED,
    ),
    "F5": row(
        0, "small file of many pixels", IMAGES + "a_refused_bomb_takes_no_memory", BROKEN, PREDICTED
    ),
    "F6": row(1, "text chunk bomb", IMAGES + "a_compressed_text_bomb_is_refused"),
    "F7": row(1, "animation", IMAGES + "the_first_frame_of_an_animation_is_used", ONE_DECODER),
    "F8": row(
        1,
        "CMYK, LAB",
        IMAGES + "cmyk_is_converted_to_what_was_printed",
        IMAGES + "lab_is_converted",
        ONE_DECODER,
    ),
    "F9": row(
        1,
        "transparency",
        IMAGES + "transparency_shows_the_background_not_the_hidden_colour",
        ONE_DECODER,
    ),
    "F10": row(
        0,
        "16 bits",
        IMAGES + "16_bit_grey_is_scaled_not_clipped",
        IMAGES + "deep_tiff_samples_are_scaled_by_their_declared_range",
        ONE_DECODER,
    ),
    "F11": row(
        0,
        "EXIF orientation",
        IMAGES + "exif_orientation_is_applied",
        IMAGES + "a_broken_exif_block_counts_as_none",
        HARMLESS,
        ONE_DECODER,
    ),
    "F12": row(0, "odd sizes", IMAGES + "odd_sizes_are_read", HARMLESS),
    "F13": row(
        0,
        "other formats called .jpg",
        IMAGES + "postscript_called_jpg_never_reaches_an_interpreter",
        IMAGES + "formats_outside_the_list_are_refused",
        BROKEN,
        PREDICTED,
    ),
    "F14": row(
        0,
        "predict on a folder, device, pipe, URL",
        IMAGES + "what_is_no_regular_file_is_refused_at_once",
        IMAGES + "a_file_that_is_too_large_is_refused_unread",
        ROWS + "TestL::test_what_is_no_image_file_is_one_line_and_no_wait",
    ),
    "F15": row(
        1,
        "some of many images bad",
        CLI + "an_unreadable_image_spoils_only_its_own_prediction",
    ),
    "F16": row(2, "one file decoded twice at once"),
    # G: workers
    "G1": row(
        0,
        "worker killed",
        WORKERS + "a_lost_worker_is_a_worker_error_and_nothing_stays_behind",
        ROWS + "TestG::test_a_lost_worker_ends_the_run_and_it_goes_on_as_if_nothing_had_happened",
    ),
    "G2": row(
        0,
        "worker crashes",
        WORKERS + "a_lost_worker_is_a_worker_error_and_nothing_stays_behind",
        ROWS + "TestG::test_a_lost_worker_ends_the_run_and_it_goes_on_as_if_nothing_had_happened",
    ),
    "G3": row(
        0,
        "worker hangs",
        WORKERS + "a_lost_worker_is_a_worker_error_and_nothing_stays_behind",
        ROWS + "TestG::test_a_worker_that_hangs_ends_the_run_after_its_time",
    ),
    "G4": row(
        0,
        "exception that cannot be pickled",
        WORKERS + "any_exception_of_a_worker_is_one_plain_data_error",
        ROWS + "TestG::test_an_exception_that_cannot_be_pickled_is_exit_code_3",
    ),
    "G5": row(
        0,
        "little shared memory",
        WORKERS + "a_tiny_shared_memory_is_enough",
        WORKERS + "large_batches_travel_in_pieces_that_shared_memory_can_hold",
    ),
    "G6": row(1, "too many open files"),
    "G7": row(0, "parent killed", WORKERS + "workers_end_with_a_killed_parent"),
    "G8": row(1, "little memory"),
    "G9": row(1, "busy machine"),
    "G10": row(
        0,
        "Ctrl-C reaches the workers",
        ROWS + "TestI::test_ctrl_c_is_one_line_however_many_workers_there_are",
        WORKERS + "workers_ignore_the_signals_that_are_the_trainers_to_handle",
    ),
    "G11": row(
        1,
        "workers after the end",
        WORKERS + "closing_ends_the_workers_and_a_closed_loader_can_be_used_again",
    ),
    "G12": row(1, "fork after threads"),
    "G13": row(1, "two days"),
    # H: numbers
    "H1": row(
        0,
        "loss is no number",
        ENGINE + "trainer.py::test_a_loss_that_is_not_finite_ends_the_run_with_its_steps",
        GUARD + "a_step_that_is_not_finite_leaves_finite_weights_and_is_named",
        ROWS + "TestH::test_what_is_saved_is_from_before_the_numbers_went_wrong",
    ),
    "H2": row(
        0,
        "gradients are no numbers",
        GUARD + "the_norm_is_finite_only_if_every_gradient_is",
        GUARD + "a_step_that_is_not_finite_leaves_finite_weights_and_is_named",
    ),
    "H3": row(
        0,
        "fp16 overflow",
        GUARD + "an_overflow_skips_the_step_and_says_so",
        GUARD + "overflow_at_a_scale_of_one_ends_the_run",
    ),
    "H4": row(
        0,
        "average of the weights is no number",
        ROWS + "TestH::test_what_is_saved_is_from_before_the_numbers_went_wrong",
    ),
    "H5": row(1, "metric of an empty class"),
    "H6": row(
        0,
        "one rank has no numbers",
        RANKS + "a_loss_that_is_no_number_on_one_rank_is_seen_by_all_at_the_same_step",
        ROWS + "TestH::test_numbers_that_go_wrong_on_one_rank_stop_all_at_the_same_step",
    ),
    "H7": row(2, "loss spike"),
    "H8": row(2, "gradients all zero"),
    "H9": row(2, "counters overflow"),
    # I: signals
    "I1": row(0, "SIGTERM within a step", SIGNAL),
    "I2": row(
        0,
        "SIGTERM in validation, saving or before training",
        ROWS + "TestI::test_a_signal_during_an_evaluation_or_a_save_is_a_stop",
        ROWS + "TestI::test_a_signal_before_training_leaves_nothing",
    ),
    "I3": row(
        0,
        "Ctrl-C once and twice",
        SIGNAL,
        ROWS + "TestI::test_a_second_ctrl_c_ends_at_once_and_the_files_stay_valid",
        ENGINE + "stop.py::test_a_third_ctrl_c_ends_even_a_process_that_hangs",
    ),
    "I4": row(0, "SIGUSR1", SIGNAL),
    "I5": row(1, "SIGHUP", SIGNAL),
    "I6": row(0, "SIGTERM to one rank", TWO_RANKS),
    "I7": row(
        0,
        "SIGTERM to torchrun",
        ROWS + "TestI::test_torchrun_passes_a_stop_on_and_the_step_is_saved",
    ),
    "I8": row(
        0,
        "SIGTERM while a peer is dead",
        ROWS + "TestJ::test_a_signal_while_a_peer_hangs_ends_after_the_timeout",
    ),
    "I9": row(
        0,
        "SIGTERM within a rename or sync",
        SAVING + "test_a_signal_within_any_system_call_of_a_save_changes_nothing",
    ),
    "I10": row(2, "stopped and continued"),
    "I11": row(1, "closed stdout", CLI + "a_closed_pipe_is_no_error"),
    "I12": row(
        2,
        "handlers afterwards",
        ENGINE + "stop.py::test_handlers_are_restored_also_after_an_error",
    ),
    # J: several processes
    "J1": row(
        0,
        "one rank raises",
        RANKS + "a_process_that_ends_early_is_a_lost_peer_to_the_others",
        ROWS + "TestJ::test_a_rank_that_ends_in_a_step_ends_the_others_and_a_resume_goes_on",
    ),
    "J2": row(
        0,
        "one rank killed",
        ROWS + "TestJ::test_a_rank_that_ends_in_a_step_ends_the_others_and_a_resume_goes_on",
    ),
    "J3": row(
        0,
        "one rank exits early",
        RANKS + "a_process_that_ends_early_is_a_lost_peer_to_the_others",
        ROWS + "TestJ::test_a_rank_that_ends_in_a_step_ends_the_others_and_a_resume_goes_on",
    ),
    "J4": row(
        0,
        "one rank hangs",
        RANKS + "a_silent_process_is_given_up_after_the_timeout",
        ROWS + "TestJ::test_a_signal_while_a_peer_hangs_ends_after_the_timeout",
    ),
    "J5": row(
        0,
        "ranks differ",
        RANKS + "processes_that_differ_are_refused_on_every_one_by_part_and_rank",
        ROWS + "TestJ::test_ranks_with_other_configs_are_refused_by_all",
    ),
    "J6": row(1, "rank 0 saves slowly"),
    "J7": row(
        0,
        "evaluation set not divisible",
        "inference/test_evaluate.py::test_the_shares_of_several_processes_are_added",
        LOADER + "evaluation_sees_every_image_exactly_once",
    ),
    "J8": row(
        0,
        "uneven training batches",
        LOADER + "batches_are_slices_of_the_permutation_and_ranks_share_them",
        RANKS + "two_ddp_processes_give_the_weights_of_one",
    ),
    "J9": row(1, "port in use", RANKS + "a_port_in_use_says_so"),
    "J10": row(
        0,
        "wrong environment",
        RANKS + "a_wrong_environment_is_refused_by_the_variables_name",
        ROWS + "TestJ::test_a_wrong_environment_is_exit_code_2_and_names_the_variable",
    ),
    "J11": row(
        0,
        "more ranks than GPUs",
        RANKS + "more_processes_than_gpus_are_refused_with_both_numbers",
        ROWS + "TestJ::test_more_processes_than_gpus_is_exit_code_6",
    ),
    "J12": row(1, "restart by torchrun"),
    "J13": row(2, "buffers differ"),
    "J14": row(1, "only rank 0 has storage"),
    "J15": row(2, "network lost"),
    # K: devices and environment
    "K1": row(
        0,
        "no CUDA device",
        "test_device.py::test_auto_falls_back_to_the_cpu_and_cuda_never_does",
        ROWS + "TestK::test_a_device_that_is_none_is_one_line_and_never_the_cpu",
    ),
    "K2": row(
        0,
        "odd names of devices",
        CONFIG + "a_value_out_of_range_or_type_is_refused",
        "test_device.py::test_a_device_that_does_not_exist_is_counted",
        ROWS + "TestK::test_a_device_that_is_none_is_one_line_and_never_the_cpu",
    ),
    "K3": row(2, "driver does not fit"),
    "K4": row(
        0,
        "out of GPU memory in the first step",
        ROWS + "TestK::test_no_memory_in_the_first_step_names_the_batch_and_leaves_nothing",
        "run/test_gpu.py::test_out_of_memory_is_one_line_with_the_batch_size",
    ),
    "K5": row(
        0,
        "out of GPU memory later or on one rank",
        ROWS + "TestK::test_no_memory_later_leaves_the_last_checkpoint_and_the_run_goes_on",
        ROWS + "TestK::test_no_memory_on_one_rank_ends_all_and_the_run_goes_on",
    ),
    "K6": row(1, "out of GPU memory in evaluation"),
    "K7": row(1, "CUDA error"),
    "K8": row(1, "precision not supported", "test_device.py::test_fp16_is_refused_on_a_cpu"),
    "K9": row(2, "GPU shared"),
    "K10": row(
        1,
        "package missing",
        "models/weights/test_pretrained.py::test_without_the_hub_package_the_install_line_is_given",
    ),
    "K11": row(
        0,
        "modules in the current folder",
        ROWS + "TestK::test_modules_in_the_current_folder_are_not_imported",
    ),
    "K12": row(1, "no home, full temporary folder"),
    "K13": row(1, "python -O"),
    "K14": row(
        0,
        "environment that makes torch.load unsafe",
        ROWS + "TestC::test_the_environment_cannot_make_unpickling_unsafe",
        CHECKPOINTS + "the_environment_cannot_switch_the_care_off",
    ),
    # L: outputs
    "L1": row(0, "export target exists or cannot be written"),
    "L2": row(0, "exported model differs"),
    "L3": row(0, "export killed"),
    "L4": row(
        0,
        "TensorBoard open to the network",
        "test_security.py::test_no_file_does_what_it_may_not",
    ),
    "L5": row(
        1,
        "names that are formulas or escapes",
        CLI + "predictions_as_csv_are_inert_and_go_to_a_file",
        CLI + "names_with_control_characters_cannot_steer_the_terminal",
    ),
    "L6": row(
        0,
        "predictions as JSON",
        ROWS + "TestL::test_json_is_all_that_goes_to_stdout_also_after_an_error",
    ),
    "L7": row(1, "more answers than classes", CLI + "the_whole_cycle"),
    "L8": row(0, "evaluate twice", CLI + "eval_never_writes"),
}

MISSING = {
    "L1": "there is no export command yet",
    "L2": "there is no export command yet",
    "L3": "there is no export command yet",
}
"""Rows of priority 0 without a test, and why."""

"""Rows of the matrix of faults that other tests hold in full."""

from __future__ import annotations

from fault_matrix import Covered

__all__ = ["COVERED"]

_BAD = "tests/classify/test_bad_images.py::"
_IMAGES = "tests/images/test_faults.py::"
_PROCESSES = "tests/images/test_processes.py::"
_LABELS = "tests/classify/test_labels.py::"
_MESSAGES = "tests/chat/test_messages.py::"
_LOOP = "tests/engines/llama/chat/test_faults.py::"
_LIFE = "tests/engines/llama/chat/test_lifecycle.py::"
_ENGINE = "tests/classify/test_engine_faults.py::"
_HUB = "tests/models/test_hub.py::"
_FETCH = "tests/models/test_hub_download.py::"
_OPENING = "tests/classify/test_on_turbomind.py::"
_GPU = "tests/machine/checks/test_gpu.py::"
_LLAMA = "tests/machine/checks/test_llama.py::"
_INTERRUPTS = "tests/test_interrupts.py::"


def _rows(kind: str, **rows: str | tuple[str, ...]) -> tuple[Covered, ...]:
    return tuple(
        Covered(kind, name.replace("_", " "), (by,) if isinstance(by, str) else by) for name, by in rows.items()
    )


COVERED: tuple[Covered, ...] = (
    *_rows(
        "image bytes",
        a_single_pixel_and_1x20000=(
            f"{_BAD}test_a_strange_picture_is_classified_beside_its_siblings",
            f"{_IMAGES}test_extreme_shapes_are_read",
        ),
        CMYK_16_bit_palette_and_RGBA=(
            f"{_BAD}test_a_strange_picture_is_classified_beside_its_siblings",
            "tests/images/test_pixels.py::test_cmyk_is_not_inverted",
            "tests/images/test_pixels.py::test_sixteen_bit_samples_are_scaled_and_not_clipped",
            "tests/images/test_pixels.py::test_transparent_palette_entries_become_white",
        ),
        turned_by_EXIF=f"{_BAD}test_a_picture_turned_by_its_exif_tag_is_turned_back",
        animated=f"{_BAD}test_of_an_animation_the_first_frame_is_classified",
        a_wrong_extension=f"{_BAD}test_the_content_decides_and_not_the_name_of_the_file",
        truncated_in_every_format=f"{_BAD}test_a_truncated_file_fails_alone",
        mutated_files_of_every_format=f"{_IMAGES}test_mutated_bytes_decode_or_raise_our_error_only",
        what_is_no_image_source_at_all=f"{_BAD}test_in_the_middle_of_a_batch_it_fails_alone",
        in_a_message_of_a_chat="tests/chat/test_images.py::test_an_image_that_cannot_be_read_is_an_error_and_others_go_on",
        a_decoding_process_that_dies=f"{_PROCESSES}test_a_process_that_dies_costs_its_image_alone",
    ),
    *_rows(
        "labels",
        refused_at_every_door_of_an_open_classifier=(
            f"{_LABELS}test_a_label_set_that_cannot_be_scored_is_refused_at_every_door"
        ),
        one_label=(
            f"{_LABELS}test_a_label_set_that_can_be_scored_comes_back_as_it_was_written",
            "tests/classify/test_exactness.py::test_one_label_is_certain_and_the_mass_says_how_little_that_means",
        ),
        shared_first_token="tests/classify/test_exactness.py::test_probabilities_over_the_labels_are_those_of_brute_force",
        prefixes_of_each_other=(
            "tests/classify/test_exactness.py::test_a_label_that_begins_another_one_needs_the_answer_to_end"
        ),
        five_hundred_labels=f"{_LABELS}test_many_labels",
        labels_longer_than_the_context=(
            "tests/classify/test_small_contexts.py::test_labels_that_leave_no_room_for_the_prompt_are_the_same_error"
        ),
    ),
    *_rows(
        "prompts",
        NUL=f"{_MESSAGES}test_a_nul_is_a_character",
        text_that_spells_special_tokens=(
            f"{_MESSAGES}test_text_that_spells_a_special_token_stays_text",
            f"{_MESSAGES}test_a_user_cannot_end_the_turn_of_a_user",
        ),
        the_longest_that_fits=f"{_MESSAGES}test_the_longest_prompt_is_one_token_below_the_limit",
        whatever_comes_in=f"{_MESSAGES}test_whatever_comes_in_the_way_out_is_a_reply_or_a_typed_error",
        a_broken_grammar="tests/chat/test_schema.py::test_a_broken_grammar_is_a_schema_error_and_the_engine_lives_on",
        an_image_and_labels_over_the_context=(
            "tests/classify/test_small_contexts.py::test_a_prompt_longer_than_the_context_is_an_error_with_the_numbers"
        ),
    ),
    *_rows(
        "engine",
        every_code_of_llama_decode_in_the_loop=(
            f"{_LOOP}test_no_room_and_an_abort_now_and_then_change_no_reply",
            f"{_LOOP}test_a_batch_that_is_refused_costs_only_the_one_that_spoils_it",
            f"{_LOOP}test_a_failed_computation_costs_what_runs_and_nothing_that_waits",
            f"{_LOOP}test_faults_at_random_change_no_reply",
        ),
        what_can_never_fit=f"{_LOOP}test_what_can_never_fit_fails_alone",
        who_waits_for_a_place_when_it_dies=(
            f"{_LOOP}test_who_waits_for_a_place_in_the_queue_is_told_that_the_engine_died"
        ),
        a_thread_that_dies=f"{_ENGINE}test_when_the_engine_dies_everybody_is_told_why",
        a_failing_batch_in_a_stream=f"{_ENGINE}test_in_a_stream_only_the_images_of_that_batch_fail",
        a_hang_while_a_reply_runs=(
            "tests/chat/test_options.py::test_an_engine_that_hangs_is_not_waited_for_for_ever",
            "tests/chat/test_options.py::test_an_asynchronous_caller_does_not_wait_for_ever_either",
        ),
        a_native_abort_while_memory_is_planned=(
            "tests/engines/llama/test_dry_run.py::test_where_llama_cpp_ends_the_process_it_is_another_one"
        ),
        a_GPU_that_others_fill="tests/chat/test_on_oom.py::test_a_gpu_that_others_fill_is_refused_before_llama_cpp_ends_the_process",
        a_replica_that_dies="tests/engines/test_replicas.py::test_a_replica_that_is_closed_fails_its_own_images_and_the_others_go_on",
        a_file_cut_short="tests/classify/test_opening.py::test_a_cut_file_is_a_load_error",
        TurboMinds_engine_dies="tests/engines/turbomind/test_engine.py::test_an_engine_that_dies_says_so_to_everyone",
    ),
    *_rows(
        "lifecycle",
        double_close=(
            "tests/classify/test_closing.py::test_closing_from_many_threads_at_once",
            "tests/chat/test_closing.py::test_closing_from_many_threads_at_once",
        ),
        close_with_asynchronous_requests_in_flight=(
            "tests/classify/test_closing.py::test_asynchronous_requests_in_flight_are_answered_and_not_cancelled",
            "tests/classify/test_closing.py::test_a_running_asynchronous_stream_ends_the_same_way",
            "tests/chat/test_closing.py::test_tasks_and_streams_are_answered_and_not_cancelled",
        ),
        close_under_a_job="tests/jobs/test_resume.py::test_an_engine_that_ends_ends_the_job_and_what_was_done_is_kept",
        fork=(
            "tests/classify/test_processes.py::test_a_forked_child_is_told_to_load_its_own",
            "tests/classify/test_processes.py::test_a_fork_while_images_are_classified_does_not_hang",
            "tests/chat/test_processes.py::test_a_forked_child_is_told_to_load_its_own",
            "tests/chat/test_processes.py::test_a_fork_while_replies_are_generated_does_not_hang",
            f"{_LIFE}test_a_forked_child_is_refused_and_ends",
        ),
        garbage_collection_without_close=(
            "tests/classify/test_closing.py::test_a_forgotten_classifier_frees_its_threads_and_memory",
            "tests/classify/test_closing.py::test_a_classifier_in_a_reference_cycle_is_collected_while_it_works",
            "tests/chat/test_closing.py::test_a_forgotten_model_in_a_reference_cycle_is_collected",
            f"{_LIFE}test_an_engine_can_be_collected_in_its_own_thread",
        ),
        two_engines_at_once=(
            "tests/classify/test_threads.py::test_two_classifiers_at_once",
            "tests/chat/test_closing.py::test_two_models_at_once_do_not_disturb_each_other",
        ),
        memory_returns=(
            "tests/classify/test_closing.py::test_memory_comes_back",
            "tests/chat/test_closing.py::test_memory_comes_back",
            f"{_LIFE}test_the_memory_comes_back",
        ),
        the_end_of_the_interpreter=(
            "tests/classify/test_processes.py::test_the_interpreter_ends_cleanly_and_quietly",
            "tests/chat/test_processes.py::test_the_interpreter_ends_cleanly_and_quietly",
        ),
        Ctrl_C_in_a_notebook="tests/test_notebooks.py::test_ctrl_c_ends_the_cell_at_once_and_leaves_the_engine_usable",
        Ctrl_C_while_an_engine_is_opened=(
            f"{_INTERRUPTS}test_while_an_engine_is_opened_it_comes_out_and_all_that_was_loaded_is_freed"
        ),
        Ctrl_C_while_an_engine_is_closed=(
            f"{_INTERRUPTS}test_while_an_engine_is_closed_it_comes_out_and_the_memory_comes_back_all_the_same"
        ),
        Ctrl_C_where_a_lock_is_taken=(
            f"{_INTERRUPTS}test_wherever_a_lock_was_just_taken_or_is_about_to_be_given_back_none_stays_behind"
        ),
        Ctrl_C_in_a_finaliser=f"{_INTERRUPTS}test_what_a_finaliser_loses_ends_the_block",
        Ctrl_C_in_a_transaction="tests/jobs/test_journal.py::test_ctrl_c_between_the_statements_of_a_transaction_loses_nothing",
    ),
    *_rows(
        "load",
        ten_times_the_queue=(
            "tests/chat/test_load.py::test_ten_times_the_queue_is_refused_and_nothing_is_lost",
            "tests/chat/test_load.py::test_tasks_over_the_limit_are_refused_one_by_one",
            "tests/classify/test_admission.py::test_streams_threads_and_tasks_share_the_places_and_all_are_served",
        ),
        a_slow_consumer=(
            "tests/classify/test_streams.py::test_a_slow_consumer_holds_the_input_back",
            "tests/chat/test_streams.py::test_a_slow_reader_loses_nothing_and_holds_nobody_up",
            "tests/chat/test_async.py::test_a_slow_reader_loses_nothing",
        ),
        an_abandoned_stream=(
            "tests/classify/test_streams.py::test_many_abandoned_streams_leave_nothing_in_the_queue",
            "tests/chat/test_streams.py::test_an_abandoned_stream_frees_its_slot",
            "tests/chat/test_async.py::test_an_abandoned_stream_frees_its_slot",
        ),
        a_thousand_mixed_requests="tests/engines/llama/chat/test_load.py::test_a_thousand_are_accounted_for_and_right",
        sixty_four_threads_on_four_slots="tests/chat/test_load.py::test_sixty_four_threads_on_four_slots",
        ten_thousand_in_the_memory_of_a_few=(
            "tests/classify/test_streams.py::test_ten_thousand_images_run_in_the_memory_of_a_few_dozen",
            "tests/chat/test_load.py::test_ten_thousand_conversations_run_in_the_memory_of_a_few",
        ),
    ),
    *_rows(
        "disk and network",
        offline_and_not_in_the_cache=f"{_HUB}test_offline_and_not_in_the_cache",
        a_model_cached_in_part=f"{_HUB}test_a_model_cached_in_part_does_not_count",
        a_connection_that_is_cut=(
            f"{_FETCH}test_a_connection_that_is_cut_several_times",
            f"{_FETCH}test_a_connection_that_never_brings_anything",
        ),
        a_process_killed_while_it_fetches=f"{_FETCH}test_a_download_goes_on_after_its_process_was_killed",
        a_wrong_hash=(
            f"{_FETCH}test_a_file_with_the_wrong_hash_is_refused_and_fetched_anew",
            f"{_FETCH}test_a_file_of_a_checkpoint_with_the_wrong_hash",
        ),
        damaged_files=f"{_HUB}test_damaged_files_are_not_handed_on",
        a_cache_that_may_only_be_read=f"{_FETCH}test_a_cache_that_may_only_be_read",
        a_full_disk_under_a_download=(
            f"{_FETCH}test_a_disk_that_is_too_small_is_seen_before_anything_is_fetched",
            f"{_FETCH}test_a_disk_that_is_full_while_a_file_is_written",
        ),
        a_hub_that_is_down=(f"{_HUB}test_with_the_hub_down_the_cache_is_used", f"{_FETCH}test_a_hub_that_stays_busy"),
        a_folder_that_may_not_be_written="tests/preset_library/test_saving.py::test_a_folder_that_takes_no_files_is_an_error",
        a_job_killed_at_any_moment=(
            "tests/jobs/test_resume.py::test_a_job_killed_again_and_again_ends_with_the_same_bytes"
        ),
        a_damaged_journal="tests/jobs/test_journal.py::test_a_damaged_journal_is_an_error_and_no_traceback",
        a_damaged_output="tests/jobs/test_outputs.py::test_an_output_that_was_spoilt_is_an_error",
    ),
    *_rows(
        "environment",
        a_build_for_the_CPU_on_a_machine_with_a_GPU=(
            f"{_LLAMA}test_a_build_for_the_cpu_is_right_without_a_gpu_and_a_waste_with_one",
            "tests/chat/test_opening.py::test_a_gpu_preset_on_a_build_for_the_cpu_says_what_to_do",
            "tests/classify/test_opening.py::test_layers_on_a_gpu_that_is_not_there_are_refused_and_not_ignored",
        ),
        a_driver_that_does_not_fit=(
            f"{_GPU}test_a_driver_that_does_not_start_is_a_failure",
            "tests/machine/checks/test_cuda.py::test_the_driver_is_compared_with_the_run_time",
        ),
        a_driver_that_hangs=f"{_GPU}test_a_driver_that_hangs_is_a_failure",
        a_GPU_that_others_hold=f"{_GPU}test_who_holds_a_gpus_memory_is_named",
        no_GPU=(
            f"{_OPENING}test_without_a_gpu_it_says_so_before_anything_else",
            f"{_GPU}test_a_variable_that_hides_all_gpus_is_named",
        ),
        a_torch_that_cannot_use_the_GPU=f"{_OPENING}test_a_torch_that_cannot_use_the_gpu_is_refused",
        a_library_that_is_missing=(
            f"{_OPENING}test_without_lmdeploy_it_says_so_before_a_model_is_looked_for",
            "tests/engines/turbomind/test_importing.py::test_a_library_that_is_missing_is_named",
        ),
        another_version_of_a_library=(
            "tests/engines/llama/test_binding.py::test_another_llama_cpp_is_refused_with_what_it_lacks",
            "tests/engines/turbomind/test_importing.py::test_another_version_is_refused",
        ),
        a_build_for_another_CPU=f"{_LLAMA}test_a_crash_by_an_unknown_instruction_is_a_build_for_another_cpu",
        an_architecture_that_the_engine_lacks=(
            f"{_OPENING}test_an_architecture_that_turbomind_lacks_is_refused_and_never_runs_on_a_slower_engine"
        ),
    ),
    *_rows(
        "server cases",
        cancel_frees_the_slot=(
            "tests/chat/test_async.py::test_a_cancelled_task_frees_its_slot",
            "tests/chat/test_streams.py::test_streams_that_are_abandoned_before_they_begin_free_the_queue",
        ),
        stream_equals_non_stream_whatever_is_asked="tests/chat/test_parity.py::test_the_six_ways_agree_whatever_is_asked",
        batch_size_does_not_change_a_classification=(
            "tests/classify/test_invariance.py::test_batch_size_and_workers_change_nothing"
        ),
        another_seed_another_text="tests/chat/test_options.py::test_a_seed_reproduces_and_another_one_differs",
    ),
)

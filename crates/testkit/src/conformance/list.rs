//! The list of cases, once: the tests and [`CASES`] are both made of it.

use super::{
    Case, batches, concurrency, durability, guards, lifecycle, limits, maintenance, order, records,
    scans, watches,
};

/// Every case, in the order of the list.
pub const CASES: &[Case] = crate::__each_conformance_case! { __conformance_list () };

/// One `#[test]` for each case of the [conformance suite](mod@crate::conformance), in the module it is
/// written in. The argument is a [`Harness`](crate::conformance::Harness), evaluated for each case.
///
/// ```
/// mod memory {
///     resurge_testkit::conformance!(resurge_store::MemoryStore::in_memory);
/// }
/// ```
#[macro_export]
macro_rules! conformance {
    ($harness:expr $(,)?) => {
        $crate::__each_conformance_case! { __conformance_tests ($harness) }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    (($harness:expr) $($module:ident { $($case:ident,)+ })+) => {
        $($(
            #[test]
            fn $case() -> ::core::result::Result<(), $crate::conformance::CaseFailure> {
                $crate::conformance::check(::core::stringify!($case), $harness).map(|_| ())
            }
        )+)+
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_list {
    (() $($module:ident { $($case:ident,)+ })+) => {
        &[$($(
            Case {
                name: ::core::stringify!($case),
                run: |subject| ::std::boxed::Box::pin($module::$case(subject)),
            },
        )+)+]
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __each_conformance_case {
    ($then:ident $arguments:tt) => {
        $crate::$then! { $arguments
            batches {
                a_batch_applies_to_all_its_namespaces,
                a_refused_batch_changes_nothing,
                operations_apply_in_order,
                an_empty_batch_commits,
                deleting_nothing_is_fine,
                a_batch_of_ten_thousand_operations_applies,
            }
            guards {
                each_guard_holds_and_refuses,
                guards_are_checked_before_own_operations,
                guards_see_commits_not_yet_acknowledged,
                a_pipeline_of_compare_and_swaps_succeeds,
                guards_see_deletes_not_yet_acknowledged,
                a_refused_batch_is_no_basis_for_guards,
                a_conflict_names_its_key,
                a_batch_of_guards_alone_decides,
                an_empty_value_is_present,
            }
            order {
                a_commit_is_submitted_when_called,
                a_dropped_future_still_commits,
                calls_commit_in_call_order,
                both_durabilities_keep_one_order,
                sequence_numbers_strictly_increase,
                a_conflict_does_not_disturb_its_neighbours,
            }
            durability {
                what_is_acknowledged_is_readable,
                sync_covers_what_was_submitted,
                everything_is_there_after_a_reopen,
                deletes_are_there_after_a_reopen,
                what_was_dropped_unclosed_is_there_after_a_reopen,
                large_values_are_there_after_a_reopen,
                sequence_numbers_go_on_after_a_reopen,
                guards_hold_after_a_reopen,
            }
            scans {
                entries_come_in_byte_order,
                reverse_is_the_exact_reverse,
                pages_hold_at_most_what_was_asked,
                a_page_holds_one_entry_at_least,
                keys_only_leaves_values_out,
                pages_cover_everything_once,
                paging_goes_on_while_keys_come_and_go,
                namespaces_do_not_leak_into_each_other,
                ranges_respect_their_bounds,
                an_empty_range_is_an_empty_page,
                everything_spans_namespaces,
                a_scan_sees_overwritten_and_deleted_keys_as_they_are,
                a_page_never_tears_a_batch,
                get_and_scan_agree,
            }
            limits {
                the_smallest_and_largest_keys_work,
                a_value_of_16_mib_works,
                several_large_values_in_one_batch_work,
                a_value_over_the_limit_is_invalid,
                a_batch_over_the_limit_is_invalid,
                every_byte_value_survives,
            }
            watches {
                a_watch_is_armed_when_made,
                a_watch_wakes_who_waits,
                many_changes_wake_once,
                a_watch_sees_its_namespace_only,
                a_delete_fires,
                a_refused_batch_does_not_fire,
                what_fired_is_readable,
                each_watch_sees_each_change,
                closing_ends_watches,
            }
            concurrency {
                guarded_increments_lose_nothing,
                one_creator_wins,
                writers_do_not_disturb_each_other,
                unavailable_means_nothing_was_written,
                readers_never_see_time_go_back,
            }
            lifecycle {
                sync_works_on_an_idle_store,
                close_refuses_what_follows,
                close_is_idempotent,
                close_keeps_what_was_submitted,
                info_names_the_backend_and_honest_limits,
            }
            records {
                an_expired_record_is_hidden,
                an_expired_record_can_be_replaced,
                a_record_under_another_key_is_corrupt,
                a_flipped_bit_is_corrupt,
                records_expire_by_the_injected_clock,
            }
            maintenance {
                remove_range_removes_the_range_and_nothing_else,
                sweep_deletes_expired_records_only,
                sweep_leaves_what_is_no_record,
            }
        }
    };
}

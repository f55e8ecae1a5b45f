//! The list: every case once, with its name.

use super::{Case, World, boxed, hostile, keys, lifecycle, limits, reuse, saving, schema, tokens};

macro_rules! cases {
    ($($name:ident => $module:ident :: $function:ident,)+) => {
        /// Every case.
        pub const CASES: &[Case] = &[$(
            Case {
                name: stringify!($name),
                run: |world: World| boxed($module::$function(world)),
            },
        )+];

        /// One `#[test]` for each promise of this crate, on stores that a [`Harness`](crate::conformance::Harness)
        /// makes. Needs the feature `conformance`.
        ///
        /// ```
        /// mod memory {
        ///     resurge_session_token::session_conformance!(|| {
        ///         std::sync::Arc::new(resurge_store::MemoryStore::in_memory())
        ///     });
        /// }
        /// # fn main() {}
        /// ```
        #[macro_export]
        macro_rules! session_conformance {
            ($harness:expr) => {
                $(
                    #[test]
                    fn $name() -> $crate::conformance::CaseResult {
                        $crate::conformance::run(stringify!($name), $harness)
                    }
                )+
            };
        }
    };
}

cases! {
    s01_what_was_saved_comes_back => tokens::round_trip,
    s02_every_changed_bit_is_refused_also_when_expired => tokens::changed_bits,
    s03_every_cut_and_extension_is_refused => tokens::cut_and_extended,
    s04_a_token_has_one_text => tokens::unique_text,
    s05_a_mebibyte_is_refused => tokens::oversized,
    s06_valid_until_the_last_millisecond_and_forged_is_not_expired => tokens::expiry,
    s06_forged_is_forged_whatever_else_is_wrong => hostile::check_order,
    s07_the_future_is_refused_beyond_the_leeway => tokens::clock_skew,
    s08_another_purpose_is_refused => tokens::purposes,
    s09_another_binding_is_refused => tokens::bindings,
    s10_keys_are_rotated_revoked_and_unknown => keys::rotation,
    s10_without_an_active_key_no_token_dies => hostile::no_active_key,
    s11_a_spliced_key_id_is_refused => keys::spliced_key,
    s12_spliced_tokens_are_refused => tokens::spliced,
    s13_tokens_of_one_millisecond_are_distinct => tokens::all_distinct,
    s14_rotation_grace_replay_and_the_family => reuse::rotation,
    s14_a_used_successor_ends_the_grace_time => reuse::used_successor,
    s14_sixteen_at_once_get_one_successor => reuse::rotation_race,
    s14_duplicates_share_fork_or_are_rejected => reuse::duplicates,
    s14_a_copy_is_as_old_as_its_original => hostile::copies,
    s14_no_copy_escapes_a_revocation => hostile::copies_race,
    s14_looking_with_an_old_token_revokes_nothing => reuse::old_token_looks,
    s12_compact_tokens_are_64_characters => tokens::compact,
    s14_until_expiry_a_token_stays => reuse::until_expiry,
    s15_of_sixteen_one_wins_also_after_a_restart => reuse::single_use_race,
    s16_a_lost_answer_can_be_asked_for_again => reuse::lost_answer,
    s17_a_stale_version_is_a_conflict => saving::versions,
    s17_no_update_is_lost => saving::concurrent_saves,
    s18_the_former_owner_is_fenced => saving::fencing,
    s19_what_ended_does_not_come_back => saving::no_resurrection,
    s20_the_same_state_is_not_written_again => saving::unchanged,
    s21_a_state_too_large_leaves_the_last_one => saving::sizes,
    s22_a_limit_evicts_or_rejects => limits::eviction,
    s22_revocations_are_not_evicted => limits::revocations_stay,
    s22_a_limit_holds_under_concurrency => limits::exact_under_concurrency,
    s22_damage_is_evicted_without_a_trace => hostile::evicted_damage,
    s23_one_subject_cannot_evict_the_others => limits::per_subject,
    s24_idle_and_absolute_lifetime => lifecycle::sliding,
    s25_cleanup_survives_a_bad_record => lifecycle::cleanup,
    s25_cleanup_leaves_what_was_renewed => lifecycle::cleanup_race,
    s25_damaged_indexes_remove_nothing => hostile::damaged_indexes,
    s26_the_background_cleans_and_ends => lifecycle::background,
    s26_closed_is_closed_and_a_restart_finds_all => lifecycle::close_and_reopen,
    s27_schemas_migrate_or_mismatch => schema::migration,
    s27_code_that_panics_changes_nothing => hostile::panics,
    s28_formats_are_recorded => schema::formats,
    s29_damage_is_corrupt => schema::damage,
    s29_plaintext_is_refused_where_sealed_is_expected => schema::downgrade,
    s29_damaged_numbers_are_counted_anew_or_refused => hostile::damaged_numbers,
    s29_the_same_state_looks_different => hostile::same_states,
    s29_a_wrong_type_consumes_nothing => schema::wrong_type,
    s30_hooks_are_told_once => lifecycle::hooks,
    s31_settings_that_cannot_be_are_refused => keys::settings,
    s35_subjects_are_revoked => lifecycle::revoked_subjects,
    s34_counters_and_times_at_their_ends => hostile::extremes,
    s34_subjects_are_any_text => hostile::subjects,
    s34_a_closed_store_is_no_bad_token => hostile::closed_store,
    s35_subjects_are_revoked_beside_damage => hostile::revoked_beside_damage,
    s35_everything_before_a_time_is_revoked => lifecycle::revoked_before,
    s36_a_sealed_state_does_not_roll_back => reuse::sealed_rollback,
}

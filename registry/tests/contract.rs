//! One suite for every server that the client may meet: the embedded one and real etcd, alone, as a cluster
//! that loses a member in the middle, and behind TLS with users.

mod contract {
    pub mod backend;
    pub mod certificates;
    pub mod embedded;
    pub mod etcd;

    pub mod leases;
    pub mod listing;
    pub mod refusals;
    pub mod values;
    pub mod watching;
}

use contract::backend::Backend;
use contract::embedded::Embedded;
use contract::etcd::{EtcdBehindTls, EtcdCluster, SingleEtcd};

macro_rules! suite {
    ($name:ident, $backend:ident, { $($case:ident in $module:ident),+ $(,)? }) => {
        mod $name {
            use super::{Backend, contract};

            $(
                #[tokio::test]
                async fn $case() {
                    let mut backend = super::$backend::start().await;
                    contract::$module::$case(&mut backend).await;
                }
            )+
        }
    };
    ($name:ident, $backend:ident) => {
        suite!($name, $backend, {
            values_are_put_read_and_deleted in values,
            the_revision_grows_by_one_per_change in values,
            one_of_racing_clients_creates_a_key in values,
            compare_and_swap_follows_the_revision in values,
            transactions_run_the_branch_that_fits in values,
            a_listing_shows_one_revision_while_others_write in listing,
            small_pages_join_without_gap_or_double in listing,
            a_watch_after_a_listing_sees_every_change_once in watching,
            events_of_one_revision_arrive_together in watching,
            a_watch_on_compacted_history_is_told_the_revision in watching,
            a_watch_on_compacted_history_lists_again in watching,
            a_slow_watcher_ends_up_with_the_truth in watching,
            a_watch_from_zero_begins_with_a_listing in watching,
            everything_survives_a_restart in watching,
            keys_vanish_with_an_expired_lease in leases,
            a_lease_in_use_stays_alive in leases,
            a_revoked_lease_takes_its_keys_along in leases,
            a_lease_gone_at_the_registry_is_reported in leases,
            a_lease_goes_on_in_the_next_life_of_its_client in leases,
            a_lease_that_is_gone_is_taken_anew_under_its_number in leases,
            racing_clients_share_the_lease_of_one_number in leases,
            a_number_taken_by_a_stranger_keeps_nobody_out in leases,
            large_values_pass_and_too_large_ones_are_refused in refusals,
            a_put_with_an_unknown_lease_is_refused in refusals,
        });
    };
}

suite!(embedded, Embedded);
suite!(etcd, SingleEtcd);
suite!(etcd_cluster, EtcdCluster);
suite!(etcd_tls, EtcdBehindTls);

suite!(embedded_guard, Embedded, { a_foreign_prefix_is_refused in refusals });
suite!(etcd_tls_guard, EtcdBehindTls, { a_foreign_prefix_is_refused in refusals });

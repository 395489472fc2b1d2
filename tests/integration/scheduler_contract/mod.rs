//! The contract of every scheduler backend, on the real binary: each backend passes the same list of cases. An agent
//! cannot tell which backend is active.
//!
//! - `backends`: the backends, and how a case causes faults with each; `balancer`: the address that they call.
//! - `fixture`: the service, its agents, and the queries of the cases.
//! - the other modules: the cases.

mod backends;
mod balancer;
mod fixture;
mod outages;
mod restarts;
mod rules;
mod times;
mod wake_ups;

/// The same cases for every backend.
macro_rules! every_backend {
    ($($file:ident: $($case:ident),+;)+) => {
        every_backend!(@of postgres, Postgres; $($file: $($case),+;)+);
        every_backend!(@of qstash, Qstash; $($file: $($case),+;)+);
        every_backend!(@of nats, Nats; $($file: $($case),+;)+);
    };
    (@of $backend:ident, $type:ident; $($file:ident: $($case:ident),+;)+) => {
        mod $backend {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$file::$case::<super::backends::$type>().await;
                }
            )+)+
        }
    };
}

every_backend! {
    times:
        a_one_shot_fires_once_at_its_instant,
        sub_second_times_are_kept,
        past_times_fire_at_once,
        a_one_shot_a_year_ahead_is_armed_and_survives_a_restart;
    wake_ups:
        the_same_key_again_changes_nothing,
        a_new_key_supersedes_and_only_it_fires,
        concurrent_wake_ups_of_one_one_shot_fire_once,
        a_repeated_wake_up_fires_once,
        a_lost_wake_up_is_fired_by_the_watchdog,
        a_wake_up_for_a_superseded_schedule_fires_nothing,
        a_wake_up_long_before_its_time_does_not_fire_early,
        a_cancelled_one_shot_never_fires_and_its_wake_up_is_removed,
        a_cancel_around_the_instant_is_never_followed_by_an_attempt;
    outages:
        a_backend_that_is_down_while_arming_and_back_in_time_wakes,
        a_backend_that_stays_down_is_replaced_by_the_watchdog,
        a_one_shot_cancelled_while_the_backend_is_down_never_fires;
    restarts:
        every_one_shot_fires_when_the_service_is_killed_and_restarted,
        every_one_shot_fires_when_the_service_is_stopped_and_restarted,
        every_one_shot_fires_when_one_of_two_replicas_is_killed,
        wake_ups_at_a_draining_replica_are_fired_by_another;
    rules:
        a_failing_agent_is_retried_by_the_built_in_loop,
        a_hold_stops_woken_one_shots_and_a_release_fires_them,
        the_floor_between_two_fires_is_kept,
        a_skew_guard_delays_the_fire;
}

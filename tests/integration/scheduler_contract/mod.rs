//! What every scheduler backend must mean, on the real binary: one list of cases, and each backend passes all of it
//! unchanged. The agent never knows which one it is.
//!
//! - `engines`: the backends, each with the means to make trouble. Our own loop over Postgres has no engine; what
//!   stands for its troubles is said there.
//! - `fixture`: the service, its agents, and what a case may ask.
//! - the others: the cases.

mod balancer;
mod engines;
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
    (@of $backend:ident, $engine:ident; $($file:ident: $($case:ident),+;)+) => {
        mod $backend {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$file::$case::<super::engines::$engine>().await;
                }
            )+)+
        }
    };
}

every_backend! {
    times:
        it_fires_once_at_its_instant,
        sub_second_times_are_kept,
        past_times_fire_at_once,
        a_year_ahead_is_armed_and_survives_a_restart;
    wake_ups:
        the_same_key_again_changes_nothing,
        a_new_key_supersedes,
        two_wake_ups_for_one_fire_at_once,
        a_wake_up_twice,
        a_wake_up_lost,
        a_wake_up_for_a_superseded_schedule,
        a_wake_up_long_before_its_time,
        a_cancel_well_before,
        a_cancel_at_the_edge;
    outages:
        the_engine_is_down_while_arming_and_back_in_time,
        the_engine_is_down_while_arming_and_stays_away,
        the_engine_is_down_while_cancelling;
    restarts:
        the_service_is_killed_in_the_middle,
        the_service_is_stopped_in_the_middle,
        one_of_two_replicas_is_killed,
        a_replica_that_is_leaving_passes_wake_ups_on;
    rules:
        a_failing_agent_gets_its_retry_from_our_own_loop,
        a_hold_stops_what_the_engine_wakes_and_a_release_fires_it,
        the_floor_between_two_fires_is_kept,
        a_skew_guard_delays;
}

//! This file answers: how often did each decision happen?
//!
//! Counters are striped: a thread adds to its own cache lines and only a scrape adds the stripes up, so two busy
//! threads never pass one line to and fro.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::audit::source_name;
use crate::config::CredentialSource;
use crate::decision::Reason;
use crate::lookup::{BackendKind, Tally};

const STRIPES: usize = 16;

/// Something that went well, or at least not wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// A message was handed to the application.
    MessageDelivered,
    /// A message was one of wsauth's own.
    MessageConsumed,
    /// A message came before its connection was authenticated.
    MessageHeld,
    /// Something was sent to the peer.
    Delivery,
    /// A new token was committed.
    Refresh,
    /// A connection ended without a refusal.
    ClosedClean,
    /// A connection was cut off by a revocation.
    RevokedConnection,
    /// An alert was raised.
    Alert,
    /// The verification of a token was found in the cache.
    CacheHit,
    /// It was not.
    CacheMiss,
}

/// Where something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// At the handshake.
    Handshake,
    /// A message in.
    Message,
    /// A message out.
    Delivery,
    /// A new token.
    Refresh,
    /// The connection was ended.
    Close,
}

/// What is counted by looking, not by adding: filled in by the engine at each scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) struct Gauges {
    /// Live connections.
    pub connections: u64,
    /// Connections waiting to be authenticated.
    pub unauthenticated: u64,
    /// Client addresses tracked.
    pub tracked_addresses: u64,
    /// Users tracked.
    pub tracked_users: u64,
    /// Revocation rules held.
    pub revocation_rules: u64,
    /// Questions to the driver without an answer.
    pub pending_lookups: u64,
    /// Audit events waiting.
    pub audit_waiting: u64,
    /// Audit events lost since the start. A counter, kept by the queue.
    pub audit_dropped: u64,
    /// How the sources did, in the order of their kinds. Counters but for the last member, kept by the lookups.
    pub sources: [Tally; BackendKind::ALL.len()],
    /// Each issuer whose keys are fetched, and the second of 1970 at which the last good set came; 0 for never.
    pub key_sets: Vec<(String, u64)>,
}

const COUNTS: [(Count, &str); 10] = [
    (Count::MessageDelivered, "wsauth_messages_total{outcome=\"delivered\"}"),
    (Count::MessageConsumed, "wsauth_messages_total{outcome=\"consumed\"}"),
    (Count::MessageHeld, "wsauth_messages_total{outcome=\"held\"}"),
    (Count::Delivery, "wsauth_deliveries_total"),
    (Count::Refresh, "wsauth_refreshes_total"),
    (Count::ClosedClean, "wsauth_closed_clean_total"),
    (Count::RevokedConnection, "wsauth_revoked_connections_total"),
    (Count::Alert, "wsauth_alerts_total"),
    (Count::CacheHit, "wsauth_cache_total{result=\"hit\"}"),
    (Count::CacheMiss, "wsauth_cache_total{result=\"miss\"}"),
];

const SOURCES: [CredentialSource; 6] = [
    CredentialSource::Authorization,
    CredentialSource::Cookie,
    CredentialSource::Subprotocol,
    CredentialSource::Query,
    CredentialSource::Ticket,
    CredentialSource::FirstMessage,
];

const STAGES: [(Stage, &str); 5] = [
    (Stage::Handshake, "handshake"),
    (Stage::Message, "message"),
    (Stage::Delivery, "delivery"),
    (Stage::Refresh, "refresh"),
    (Stage::Close, "close"),
];

const REASONS: usize = Reason::ALL.len();

/// All counters of one engine: about 55 KiB, allocated once.
pub(crate) struct Metrics {
    stripes: Box<[Stripe]>,
}

/// One thread's counters, on cache lines of their own.
#[repr(align(128))]
struct Stripe {
    counts: [AtomicU64; COUNTS.len()],
    accepted: [AtomicU64; SOURCES.len()],
    refused: [[AtomicU64; REASONS]; STAGES.len()],
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new() -> Metrics {
        Metrics { stripes: (0..STRIPES).map(|_| Stripe::new()).collect() }
    }

    /// Adds one.
    pub(crate) fn add(&self, count: Count) {
        increment(self.stripe().and_then(|stripe| stripe.counts.get(count as usize)));
    }

    /// Adds one accepted handshake.
    pub(crate) fn accept(&self, source: CredentialSource) {
        increment(self.stripe().and_then(|stripe| stripe.accepted.get(source as usize)));
    }

    /// Adds one refusal.
    pub(crate) fn refuse(&self, stage: Stage, reason: Reason) {
        let find = |stripe: &'_ Stripe| {
            let place = Reason::ALL.binary_search(&reason).ok()?;
            increment(stripe.refused.get(stage as usize)?.get(place));
            Some(())
        };
        let _ = self.stripe().and_then(find);
    }

    /// The sum of one counter.
    pub(crate) fn count(&self, count: Count) -> u64 {
        self.sum(|stripe| stripe.counts.get(count as usize))
    }

    /// Accepted handshakes.
    pub(crate) fn accepted(&self, source: CredentialSource) -> u64 {
        self.sum(|stripe| stripe.accepted.get(source as usize))
    }

    /// Refusals at one stage for one reason.
    pub(crate) fn refused(&self, stage: Stage, reason: Reason) -> u64 {
        let place = Reason::ALL.binary_search(&reason).unwrap_or(usize::MAX);
        self.sum(|stripe| stripe.refused.get(stage as usize)?.get(place))
    }

    /// The Prometheus text format, version 0.0.4. Every label is from a closed set and every series is written
    /// from the start, so their number never changes.
    pub(crate) fn to_prometheus(&self, gauges: &Gauges) -> String {
        let mut out = Exposition { text: String::with_capacity(48 * 1024), family: "" };
        for (count, series) in COUNTS {
            out.series(series, "counter", self.count(count));
        }
        for source in SOURCES {
            let series = format_args!("{{source=\"{}\"}}", source_name(source));
            out.labelled("wsauth_handshakes_accepted_total", "counter", series, self.accepted(source));
        }
        for (stage, name) in STAGES {
            for reason in Reason::ALL {
                let labels = format_args!("{{stage=\"{name}\",reason=\"{}\"}}", reason.name());
                out.labelled("wsauth_refusals_total", "counter", labels, self.refused(stage, *reason));
            }
        }
        out.series("wsauth_audit_dropped_total", "counter", gauges.audit_dropped);
        for (kind, tally) in BackendKind::ALL.into_iter().zip(&gauges.sources) {
            for (outcome, count) in [
                ("answered", tally.answered),
                ("failed", tally.failed),
                ("late", tally.late),
                ("refused", tally.refused),
            ] {
                let labels = format_args!("{{backend=\"{}\",outcome=\"{outcome}\"}}", kind.name());
                out.labelled("wsauth_lookups_total", "counter", labels, count);
            }
        }
        for (kind, tally) in BackendKind::ALL.into_iter().zip(&gauges.sources) {
            let labels = format_args!("{{backend=\"{}\"}}", kind.name());
            out.labelled("wsauth_sources_left_alone", "gauge", labels, tally.open);
        }
        for (issuer, second) in &gauges.key_sets {
            let labels = format_args!("{{issuer=\"{}\"}}", label(issuer));
            out.labelled("wsauth_key_set_fetched_timestamp_seconds", "gauge", labels, *second);
        }
        for (name, value) in [
            ("wsauth_connections", gauges.connections),
            ("wsauth_unauthenticated_connections", gauges.unauthenticated),
            ("wsauth_tracked_addresses", gauges.tracked_addresses),
            ("wsauth_tracked_users", gauges.tracked_users),
            ("wsauth_revocation_rules", gauges.revocation_rules),
            ("wsauth_pending_lookups", gauges.pending_lookups),
            ("wsauth_audit_waiting", gauges.audit_waiting),
        ] {
            out.series(name, "gauge", value);
        }
        out.text
    }

    fn stripe(&self) -> Option<&Stripe> {
        self.stripes.get(thread_stripe())
    }

    fn sum<'a>(&'a self, find: impl Fn(&'a Stripe) -> Option<&'a AtomicU64>) -> u64 {
        let counters = self.stripes.iter().filter_map(find);
        counters.fold(0, |sum, counter| sum.wrapping_add(counter.load(Ordering::Relaxed)))
    }
}

impl Stripe {
    fn new() -> Stripe {
        Stripe {
            counts: [const { AtomicU64::new(0) }; COUNTS.len()],
            accepted: [const { AtomicU64::new(0) }; SOURCES.len()],
            refused: [const { [const { AtomicU64::new(0) }; REASONS] }; STAGES.len()],
        }
    }
}

/// The text under construction, and the family whose header was written last.
struct Exposition {
    text: String,
    family: &'static str,
}

impl Exposition {
    fn header(&mut self, family: &'static str, kind: &str) {
        if self.family != family {
            self.family = family;
            // Writing to a String cannot fail.
            let _ = writeln!(self.text, "# TYPE {family} {kind}");
        }
    }

    fn series(&mut self, series: &'static str, kind: &str, value: u64) {
        self.header(series.split('{').next().unwrap_or(series), kind);
        let _ = writeln!(self.text, "{series} {value}");
    }

    fn labelled(&mut self, family: &'static str, kind: &str, labels: std::fmt::Arguments<'_>, value: u64) {
        self.header(family, kind);
        let _ = writeln!(self.text, "{family}{labels} {value}");
    }
}

/// A configured name as the value of a label. It holds no control characters.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn increment(counter: Option<&AtomicU64>) {
    if let Some(counter) = counter {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The stripe of this thread: threads are dealt out in turn.
fn thread_stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static STRIPE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
    }
    // A thread that is being torn down counts with the first.
    STRIPE.try_with(|stripe| *stripe).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{COUNTS, Count, Gauges, Metrics, SOURCES, STAGES, Stage};
    use crate::config::CredentialSource;
    use crate::decision::Reason;

    #[test]
    fn tables_stand_in_the_order_of_their_enums() {
        assert!(COUNTS.iter().enumerate().all(|(place, (count, _))| *count as usize == place));
        assert!(SOURCES.iter().enumerate().all(|(place, source)| *source as usize == place));
        assert!(STAGES.iter().enumerate().all(|(place, (stage, _))| *stage as usize == place));
        assert!(Reason::ALL.is_sorted(), "a reason is found by bisection");
    }

    #[test]
    fn each_counter_counts_for_itself() {
        let metrics = Metrics::new();
        for (round, (count, _)) in COUNTS.iter().enumerate() {
            (0..=round).for_each(|_| metrics.add(*count));
        }
        for (round, (count, _)) in COUNTS.iter().enumerate() {
            assert_eq!(metrics.count(*count), round as u64 + 1);
        }
        for reason in Reason::ALL {
            metrics.refuse(Stage::Refresh, *reason);
            assert_eq!(metrics.refused(Stage::Refresh, *reason), 1);
            assert_eq!(metrics.refused(Stage::Close, *reason), 0);
        }
        metrics.accept(CredentialSource::Ticket);
        assert_eq!((metrics.accepted(CredentialSource::Ticket), metrics.accepted(CredentialSource::Query)), (1, 0));
    }

    #[test]
    fn no_count_is_lost_between_threads() {
        let metrics = Metrics::new();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| (0..1_000).for_each(|_| metrics.add(Count::MessageDelivered)));
            }
        });
        assert_eq!(metrics.count(Count::MessageDelivered), 20_000);
        let used = metrics.stripes.iter().filter(|stripe| stripe.counts[0].load(super::Ordering::Relaxed) > 0).count();
        assert!(used > 1);
    }

    #[test]
    fn the_text_is_well_formed_and_its_series_never_change() {
        let metrics = Metrics::new();
        let series = |text: &str| -> Vec<String> {
            text.lines().map(|line| line.rsplit_once(' ').unwrap().0.to_string()).collect()
        };
        let before = metrics.to_prometheus(&Gauges::default());
        metrics.refuse(Stage::Handshake, Reason::SignatureInvalid);
        metrics.add(Count::Delivery);
        metrics.accept(CredentialSource::Cookie);
        let gauges = Gauges { connections: 7, audit_dropped: 9, ..Gauges::default() };
        let after = metrics.to_prometheus(&gauges);
        assert_eq!(series(&before), series(&after));
        for line in [
            "wsauth_refusals_total{stage=\"handshake\",reason=\"signature_invalid\"} 1",
            "wsauth_refusals_total{stage=\"message\",reason=\"signature_invalid\"} 0",
            "wsauth_deliveries_total 1",
            "wsauth_handshakes_accepted_total{source=\"cookie\"} 1",
            "wsauth_messages_total{outcome=\"delivered\"} 0",
            "wsauth_connections 7",
            "wsauth_audit_dropped_total 9",
            "# TYPE wsauth_connections gauge",
            "# TYPE wsauth_messages_total counter",
        ] {
            assert_eq!(after.lines().filter(|found| *found == line).count(), 1, "{line}");
        }
        let types: Vec<&str> = after.lines().filter(|line| line.starts_with('#')).collect();
        assert_eq!(types.iter().collect::<HashSet<_>>().len(), types.len(), "one header per family");
        assert!(after.is_ascii() && after.ends_with('\n'));
    }
}

//! Prometheus metrics: counts and durations, nothing about whom or what.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The kind of an input.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct InputKind {
    /// `command`, `frame`, `mail` or `other`.
    pub kind: &'static str,
}

/// What a node counts. The names are part of the interface: monitoring depends on them.
pub struct Metrics {
    registry: Registry,
    /// Batches made durable.
    pub batches: Counter,
    /// Inputs decided, by kind.
    pub inputs: Family<InputKind, Counter>,
    /// From the first input taken to the commit.
    pub batch_seconds: Histogram,
    /// Commands refused because too many waited.
    pub busy: Counter,
    /// Batches that could not be made durable.
    pub storage_errors: Counter,
    /// Frames handed to the network.
    pub frames_sent: Counter,
    /// Frames that a full queue refused; their content is sent later.
    pub frames_held: Counter,
    /// Mailbox requests sent (device) or answered (relay).
    pub mail: Counter,
    /// Mailbox requests without an answer (device), or answers dropped (relay).
    pub mail_failed: Counter,
    /// Peers connected.
    pub peers: Gauge,
    /// Relays at which a reservation holds.
    pub reservations: Gauge,
    /// 1 while storage works, else 0.
    pub healthy: Gauge,
    /// Mailboxes held (relay).
    pub relay_tags: Gauge<i64>,
    /// Bytes of deposits held (relay).
    pub relay_bytes: Gauge<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let all = Self {
            registry: Registry::with_prefix("teahouse"),
            batches: Counter::default(),
            inputs: Family::default(),
            // 0.5 ms to 8 s: an fsync takes milliseconds, a batch of catch-up tens of them.
            batch_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 15)),
            busy: Counter::default(),
            storage_errors: Counter::default(),
            frames_sent: Counter::default(),
            frames_held: Counter::default(),
            mail: Counter::default(),
            mail_failed: Counter::default(),
            peers: Gauge::default(),
            reservations: Gauge::default(),
            healthy: Gauge::default(),
            relay_tags: Gauge::default(),
            relay_bytes: Gauge::default(),
        };
        all.healthy.set(1);
        all.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        let r = &mut self.registry;
        r.register("batches", "Batches made durable", self.batches.clone());
        r.register("inputs", "Inputs decided", self.inputs.clone());
        let histogram = self.batch_seconds.clone();
        r.register_with_unit("batch", "Time to make a batch durable", Unit::Seconds, histogram);
        r.register("commands_busy", "Commands refused: queue full", self.busy.clone());
        r.register("storage_errors", "Batches not made durable", self.storage_errors.clone());
        r.register("frames_sent", "Frames handed to the network", self.frames_sent.clone());
        r.register("frames_held", "Frames a full queue refused", self.frames_held.clone());
        r.register("mail", "Mailbox requests sent or answered", self.mail.clone());
        r.register("mail_failed", "Mailbox requests that failed", self.mail_failed.clone());
        r.register("peers", "Peers connected", self.peers.clone());
        r.register("reservations", "Relay reservations held", self.reservations.clone());
        r.register("healthy", "1 while storage works", self.healthy.clone());
        r.register("relay_mailboxes", "Mailboxes held", self.relay_tags.clone());
        let bytes = self.relay_bytes.clone();
        r.register_with_unit("relay_stored", "Deposits held", Unit::Bytes, bytes);
        self
    }

    /// Everything, in the `OpenMetrics` text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Err(e) = encode(&mut text, &self.registry) {
            tracing::error!("metrics: {e}");
        }
        text
    }

    /// Counts inputs of a kind.
    pub fn count(&self, kind: &'static str, n: usize) {
        if n > 0 {
            self.inputs.get_or_create(&InputKind { kind }).inc_by(n as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_holds_what_was_counted() {
        let metrics = Metrics::default();
        metrics.count("command", 3);
        metrics.batch_seconds.observe(0.01);
        let text = metrics.text();
        assert!(text.contains("teahouse_inputs_total{kind=\"command\"} 3"), "{text}");
        assert!(text.contains("teahouse_batch_seconds_count 1"), "{text}");
        assert!(text.contains("teahouse_healthy 1"), "{text}");
    }
}

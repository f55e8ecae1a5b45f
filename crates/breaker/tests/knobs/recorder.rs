//! A recorder of metrics that remembers everything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Label, Metadata,
    Recorder, SharedString, Unit,
};
use parking_lot::Mutex;

#[derive(Default)]
pub(crate) struct Remembering {
    cells: Mutex<BTreeMap<String, Arc<Cell>>>,
}

/// A counter's sum, a gauge's count, the number of a histogram's values.
#[derive(Default)]
struct Cell(AtomicU64);

impl CounterFn for Cell {
    fn increment(&self, by: u64) {
        self.0.fetch_add(by, Ordering::SeqCst);
    }
    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::SeqCst);
    }
}

impl GaugeFn for Cell {
    fn increment(&self, by: f64) {
        assert!((by - 1.0).abs() < f64::EPSILON, "counted one by one");
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn decrement(&self, by: f64) {
        assert!((by - 1.0).abs() < f64::EPSILON, "counted one by one");
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
    fn set(&self, value: f64) {
        self.0.store(u64::from(value > 0.0), Ordering::SeqCst);
    }
}

impl HistogramFn for Cell {
    fn record(&self, _: f64) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Remembering {
    fn cell(&self, key: &Key) -> Arc<Cell> {
        let labels: Vec<_> = key.labels().map(Label::value).collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        Arc::clone(self.cells.lock().entry(name).or_default())
    }

    /// Everything that is not 0: name, values of the labels, value.
    pub(crate) fn seen(&self) -> Vec<String> {
        let cells = self.cells.lock();
        let values = cells.iter().map(|(name, cell)| (name, cell.0.load(Ordering::SeqCst)));
        values.filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}")).collect()
    }
}

impl Recorder for Remembering {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.cell(key))
    }
}

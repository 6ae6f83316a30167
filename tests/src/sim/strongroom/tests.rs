use super::Strongroom;
use crate::sim::run::{self, Options};
use crate::sim::scenarios;
use crate::sim::trace::Sink;
use std::sync::Arc;
use std::time::Duration;

/// A list shows no deleted key: what is kept of one is found by its name.
#[test]
fn versions_of_deleted_keys_are_looked_at() {
    let scenario = scenarios::ALL.iter().find(|scenario| scenario.name == "calm");
    let options = Options {
        seed: 1,
        sink: Sink::None,
        mutant: None,
        span: Duration::from_secs(20),
        clients: run::CLIENTS,
        keys: run::KEYS,
        scenario,
        schedule: None,
    };
    let report = run::run(Arc::new(Strongroom::default()), options);
    assert_eq!(report.violations, []);
    let count = |what: &str| report.checked.get(what).copied().unwrap_or(0);
    assert!(count("versions of deleted keys") > 0, "{:?}", report.checked);
    assert!(count("versions read by their ids at the end") > 10, "{:?}", report.checked);
}

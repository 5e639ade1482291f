//! What was tried, as a table.

use comfy_table::{Table, presets};

use super::Trial;

/// One row a trial, with a mark at the chosen one. Speed is that of EZKL's own settings, the first trial.
pub fn table(trials: &[Trial], chosen: Option<usize>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "",
        "settings",
        "lookup tables",
        "mean",
        "p99",
        "max",
        "refused",
        "proof",
        "speed",
        "key",
        "memory",
        "",
    ]);
    let default = trials.iter().find(|trial| trial.is_default).and_then(Trial::fastest);
    for (at, trial) in trials.iter().enumerate() {
        let error = |value: fn(&super::AccuracyReport) -> f64| {
            trial.fidelity.as_ref().map_or_else(String::new, |found| format!("{:.1e}", value(found)))
        };
        let (low, high) = trial.choice.lookup_range;
        let speed = trial.fastest().zip(default).map(|(fastest, default)| format!("{:.2}×", default / fastest));
        let refused = trial.fidelity.as_ref().map(|found| format!("{:.1} %", 100.0 * found.refused_share()));
        table.add_row([
            if Some(at) == chosen { "→".to_owned() } else { String::new() },
            format!("{}{}", trial.choice, if trial.is_default { " (EZKL's own)" } else { "" }),
            format!("{low}..{high}"),
            error(|found| found.error.mean),
            error(|found| found.error.p99),
            error(|found| found.error.max),
            refused.unwrap_or_default(),
            trial.fastest().map_or_else(String::new, |seconds| format!("{seconds:.2} s")),
            speed.unwrap_or_default(),
            trial.proving_key_bytes.map_or_else(String::new, |bytes| format!("{} MB", bytes / 1_000_000)),
            trial.peak_memory_mb.map_or_else(String::new, |peak| format!("{peak} MB")),
            trial.dropped.clone().unwrap_or_default(),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::tests::trial;
    use super::*;

    #[test]
    fn the_choice_is_marked_and_speeds_are_those_of_ezkls_own() {
        let default = Trial { is_default: true, ..trial(15, 1e-3, &[4.0, 3.0]) };
        let dropped = Trial { dropped: Some("too large".to_owned()), ..trial(13, 2e-3, &[]) };
        let text = table(&[default, trial(14, 1e-3, &[1.5, 1.2]), dropped], Some(1));
        let line = |part: &str| text.lines().find(|line| line.contains(part)).unwrap().to_owned();
        assert!(line("→").contains("2^14") && line("→").contains("2.50×"), "{text}");
        assert!(line("EZKL's own").contains("3.00 s"), "{text}");
        assert!(line("2^13").contains("too large"), "{text}");
    }
}

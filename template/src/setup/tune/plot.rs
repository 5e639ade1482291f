//! What was tried, as a picture: proof time against error.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::Trial;

const SIZE: (u32, u32) = (900, 560);

/// Writes the picture of all that was proven, the chosen one marked.
pub fn draw(trials: &[Trial], chosen: usize, file: &Path) -> Result<()> {
    draw_points(trials, chosen, file).map_err(|error| anyhow!("cannot draw {}: {error}", file.display()))
}

fn draw_points(trials: &[Trial], chosen: usize, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let points: Vec<(usize, f64, f64, &Trial)> = trials
        .iter()
        .enumerate()
        .filter_map(|(at, trial)| Some((at, trial.fidelity.as_ref()?.error.max, trial.fastest()?, trial)))
        .collect();
    // A little room on all sides, for the names.
    let most = |value: fn(&(usize, f64, f64, &Trial)) -> f64| points.iter().map(value).fold(0.0, f64::max).max(1e-9);
    let (widest, longest) = (most(|point| point.1) * 1.6, most(|point| point.2) * 1.15);

    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Proof time against error", ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..widest, 0.0..longest)?;
    chart
        .configure_mesh()
        .x_desc("largest |circuit − candle| on the held-out rows")
        .y_desc("seconds of a proof")
        .x_label_formatter(&|error| format!("{error:.1e}"))
        .light_line_style(WHITE)
        .draw()?;
    for (at, error, seconds, trial) in points {
        let colour = if at == chosen { RED } else { BLUE };
        chart.draw_series([Circle::new((error, seconds), 5, colour.filled())])?;
        let mark = if at == chosen { "chosen: " } else { "" };
        let whose = if trial.is_default { "EZKL's own: " } else { "" };
        let name = EmptyElement::at((error, seconds))
            + Text::new(
                format!("{mark}{whose}{}", trial.choice),
                (9, -6),
                ("sans-serif", 13).into_font().color(&colour),
            );
        chart.draw_series([name])?;
    }
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::trial;
    use super::*;

    #[test]
    fn what_was_proven_is_in_the_picture_and_the_choice_is_marked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tuning.svg");
        let default = Trial { is_default: true, ..trial(15, 1e-3, &[4.0]) };
        draw(&[default, trial(14, 1e-3, &[1.5]), trial(13, 1e-3, &[])], 1, &file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("chosen: scale 11, 2^14 rows"), "{text}");
        assert!(text.contains("EZKL's own: scale 11, 2^15 rows") || text.contains("EZKL&apos;s own"), "{text}");
        assert_eq!(text.matches("<circle").count(), 2);
    }
}

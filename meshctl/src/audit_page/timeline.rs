//! Every node's epochs over time, as a drawing.

use std::collections::BTreeMap;

use meshd_audit::{KeyReport, LogReport, Report};

use super::{at, put as write, text};
use crate::time;

const WIDTH: u64 = 1000;
const LEFT: u64 = 150;
const ROW: u64 = 26;
const BAR: u64 = 16;
const AXIS: u64 = 28;
const TICKS: u64 = 4;

/// Draws a row a node and a bar an epoch.
pub fn put(html: &mut String, report: &Report, log: &LogReport) {
    let mut rows: BTreeMap<(&str, &str), Vec<&KeyReport>> = BTreeMap::new();
    for key in log.keys.iter().filter(|key| key.active_from.is_some()) {
        rows.entry((&key.name, &key.node)).or_default().push(key);
    }
    let begin = rows.values().flatten().filter_map(|key| key.active_from).min();
    let Some(begin) = begin.filter(|begin| *begin < report.at) else {
        html.push_str("<p>No key was in use.</p>\n");
        return;
    };
    let scale = Scale { begin, span: report.at - begin };
    let height = AXIS + rows.len() as u64 * ROW + 4;
    write(
        html,
        format_args!(
            "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Epochs of each node over time\">\n"
        ),
    );
    for tick in 0..=TICKS {
        let time = begin + scale.span / TICKS * tick;
        let x = scale.x(time);
        let anchor = match tick {
            0 => "start",
            TICKS => "end",
            _ => "middle",
        };
        let label = time::utc(time);
        write(
            html,
            format_args!(
                "<line x1=\"{x}\" y1=\"{AXIS}\" x2=\"{x}\" y2=\"{height}\" stroke=\"#d5dae1\"/>\
             <text class=\"axis\" x=\"{x}\" y=\"16\" text-anchor=\"{anchor}\">{}</text>\n",
                label.get(..16).unwrap_or(&label)
            ),
        );
    }
    for (row, ((name, node), keys)) in (0..).zip(rows) {
        let y = AXIS + row * ROW + (ROW - BAR) / 2;
        let shown = if name.is_empty() { node } else { name };
        let short: String = shown.chars().take(20).collect();
        write(html, format_args!("<text x=\"0\" y=\"{}\">{}</text>\n", y + 12, text(&short)));
        for key in keys {
            bar(html, &scale, y, report.at, key);
        }
    }
    html.push_str("</svg>\n");
    html.push_str(
        "<p class=\"legend\">Each bar is a key in use; its number is the epoch. <i style=\"background:#2c5282\"></i>even \
         <i style=\"background:#7fa7d6\"></i>odd <i style=\"background:#c05621\"></i>with an exception</p>\n",
    );
}

/// Times to places.
struct Scale {
    begin: u64,
    span: u64,
}

impl Scale {
    fn x(&self, time: u64) -> u64 {
        let passed = u128::from(time.saturating_sub(self.begin).min(self.span));
        let x = passed * u128::from(WIDTH - LEFT - 2) / u128::from(self.span.max(1));
        LEFT + u64::try_from(x).unwrap_or(0)
    }
}

fn bar(html: &mut String, scale: &Scale, y: u64, end: u64, key: &KeyReport) {
    let Some(from) = key.active_from else { return };
    let (left, right) = (scale.x(from), scale.x(key.active_to.unwrap_or(end)));
    let width = right.saturating_sub(left).max(1);
    let (fill, ink) = match (key.exceptions.is_empty(), key.epoch.is_multiple_of(2)) {
        (false, _) => ("#c05621", "#ffffff"),
        (true, true) => ("#2c5282", "#ffffff"),
        (true, false) => ("#7fa7d6", "#1a202c"),
    };
    let until = key.active_to.map_or_else(|| "now".to_owned(), |to| at(Some(to)));
    write(
        html,
        format_args!(
            "<rect x=\"{left}\" y=\"{y}\" width=\"{width}\" height=\"{BAR}\" fill=\"{fill}\"><title>epoch {}: {} to {until} {}</title></rect>",
            key.epoch,
            at(Some(from)),
            text(&key.exceptions.join(" ")),
        ),
    );
    let label = key.epoch.to_string();
    if width > 7 * label.len() as u64 + 2 {
        write(
            html,
            format_args!("<text x=\"{}\" y=\"{}\" style=\"fill:{ink}\">{label}</text>", left + 2, y + 12),
        );
    }
    html.push('\n');
}

//! A bar chart of one TCP stream, as SVG that is readable on light and dark pages.

use super::results::{Metric, OnLink, Results};
use super::system::System;

const WIDTH: f64 = 760.0;
const LABEL_WIDTH: f64 = 120.0;
const VALUE_WIDTH: f64 = 90.0;
const BAR_HEIGHT: f64 = 18.0;
const ROW_HEIGHT: f64 = 26.0;
const HEAD_HEIGHT: f64 = 56.0;
const MARGIN: f64 = 16.0;

/// Colours of both kinds of page; text and bars keep their contrast on either.
const STYLE: &str = "<style>\
    text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600;font-size:15px}.note{fill:#59636e}\
    .peer{fill:#8c959f}.ours{fill:#0969da}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.note{fill:#9198a1}.peer{fill:#656c76}.ours{fill:#4493f8}}\
    </style>";

/// Draws one panel a link.
pub fn draw(results: &Results) -> String {
    let mut body = String::new();
    let mut top = MARGIN;
    for on in &results.links {
        let (panel, height) = panel(on, top);
        body.push_str(&panel);
        top += height + MARGIN;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{top}\" \
         viewBox=\"0 0 {WIDTH} {top}\" role=\"img\" aria-label=\"One TCP stream through each system\">\n\
         {STYLE}\n{body}</svg>\n"
    )
}

/// One kind of link: encrypting systems as bars, the others, which would dwarf them, in words.
fn panel(on: &OnLink, top: f64) -> (String, f64) {
    let speed = |system: &System| on.of(*system).and_then(|measured| measured.median(Metric::Tcp1));
    let mut bars: Vec<(System, f64)> = on
        .systems
        .keys()
        .filter(|system| system.is_ours() || system.is_user_space_peer())
        .filter_map(|system| Some((*system, speed(system)?)))
        .collect();
    bars.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let unencrypted: Vec<String> = [System::Veth, System::Vxlan]
        .iter()
        .filter_map(|system| Some(format!("{system} {:.1}", speed(system)? / 1e3)))
        .collect();
    let longest = bars.first().map_or(1.0, |(_, speed)| *speed);
    let mut text = format!(
        "<text class=\"title\" x=\"{MARGIN}\" y=\"{}\">One TCP stream, Gbit/s: {}</text>\n",
        top + 16.0,
        on.link.title()
    );
    if !unencrypted.is_empty() {
        text.push_str(&format!(
            "<text class=\"note\" x=\"{MARGIN}\" y=\"{}\">without encryption: {}</text>\n",
            top + 36.0,
            unencrypted.join(", ")
        ));
    }
    let room = WIDTH - LABEL_WIDTH - VALUE_WIDTH - 2.0 * MARGIN;
    let mut y = top + HEAD_HEIGHT;
    for (system, speed) in &bars {
        let class = if system.is_ours() { "ours" } else { "peer" };
        let (length, baseline, left) = (room * speed / longest, y + 14.0, MARGIN + LABEL_WIDTH);
        text.push_str(&format!(
            "<text x=\"{}\" y=\"{baseline}\" text-anchor=\"end\">{system}</text>\
             <rect class=\"{class}\" x=\"{left}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR_HEIGHT}\" rx=\"2\"/>\
             <text x=\"{:.1}\" y=\"{baseline}\">{:.2}</text>\n",
            left - 8.0,
            left + length + 6.0,
            speed / 1e3
        ));
        y += ROW_HEIGHT;
    }
    (text, y - top)
}

//! One line on how far a phase is, in as many columns as there are.

use std::time::Duration;

use crate::cli::print::gigabytes;

/// Columns of the shortest bar that is worth its room.
const SHORTEST_BAR: usize = 10;
/// Columns of the longest bar: from there on the eye gains nothing.
const LONGEST_BAR: usize = 60;
/// Fewer characters of a tensor's name tell nothing.
const SHORTEST_NAME: usize = 8;
/// Columns of `59 min 59 s left`, the longest time there is.
const TIME: usize = 16;

/// What there is to tell; what is not known is left out.
#[derive(Default)]
pub(super) struct Line {
    /// `2/3 predictions`, where there is more than one phase.
    pub phase: Option<String>,
    /// From 0 to 1.
    pub part: f64,
    pub amount: Option<String>,
    pub speed: Option<String>,
    pub left: Option<String>,
    pub downloaded: Option<String>,
    /// A tensor or a layer.
    pub at: String,
}

impl Line {
    /// For a line that stays: everything.
    pub(super) fn plain(&self) -> String {
        let percent = Some(self.percent());
        let at = Some(self.at.clone()).filter(|at| !at.is_empty());
        let Line { phase, amount, speed, left, downloaded, .. } = self;
        let parts = [phase, &percent, amount, speed, left, downloaded, &at];
        parts.into_iter().flatten().cloned().collect::<Vec<_>>().join("  ")
    }

    /// For a line that is written over: what matters most of what there is room for, each in a place that does not move
    /// when a number has another digit.
    pub(super) fn with_bar(&self, columns: usize) -> String {
        let left = format!("{:TIME$}", self.left.as_deref().unwrap_or_default());
        let mut free = columns.saturating_sub(self.percent().len() + 2 + left.len());
        let mut take = |text: Option<String>| {
            free = free.checked_sub(text.as_ref()?.chars().count() + 2)?;
            text
        };
        // In the order of what is missed most.
        let phase = take(self.phase.clone());
        let bar = (columns / 2).saturating_sub(30).clamp(SHORTEST_BAR, LONGEST_BAR);
        let bar = take(Some(self.bar(bar)));
        let speed = take(self.speed.as_ref().map(|speed| format!("{speed:>10}")));
        let amount = take(self.amount.clone());
        let downloaded = take(self.downloaded.clone());
        let room = free.saturating_sub(2);
        let at: String = self.at.chars().take(room).collect();
        let at = Some(at).filter(|at| !at.is_empty() && room >= SHORTEST_NAME);
        let parts = [phase, bar, Some(self.percent()), amount, speed, Some(left), downloaded, at];
        let text = parts.into_iter().flatten().collect::<Vec<_>>().join("  ");
        text.chars().take(columns).collect::<String>().trim_end().to_owned()
    }

    fn percent(&self) -> String {
        // Rounded down: 100 % is the end.
        format!("{:3} %", (100.0 * self.part).floor().clamp(0.0, 100.0))
    }

    fn bar(&self, columns: usize) -> String {
        let inner = columns - 2;
        let full = ((self.part * inner as f64) as usize).min(inner);
        let head = usize::from(full < inner);
        format!("[{}{}{}]", "=".repeat(full), ">".repeat(head), " ".repeat(inner - full - head))
    }
}

/// How much of the whole is done, in the unit of the whole: `5.62 of 12.49 GB`.
pub(super) fn amount(done: u64, total: u64) -> String {
    let whole = gigabytes(total);
    let (number, unit) = whole.split_once(' ').unwrap_or((&whole, ""));
    let (bytes, digits) = match unit {
        "GB" => (1e9, 2),
        "MB" => (1e6, 1),
        _ => (1e3, 1),
    };
    let width = number.len();
    format!("{:width$.digits$} of {whole}", done as f64 / bytes)
}

/// Bytes a second.
pub(super) fn speed(bytes: f64) -> String {
    format!("{}/s", gigabytes(bytes.max(0.0) as u64))
}

/// A time that is still to come.
pub(super) fn left(time: Duration) -> String {
    match time.as_secs_f64().round() as u64 {
        seconds @ ..60 => format!("{seconds} s left"),
        seconds @ ..3600 => format!("{} min {} s left", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min left", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_bytes() -> Line {
        Line {
            part: 0.4567,
            amount: Some(amount(5_620_000_000, 12_490_000_000)),
            speed: Some(speed(653_200_000.0)),
            left: Some(left(Duration::from_secs(80))),
            at: "blk.12.ffn_down.weight".to_owned(),
            ..Line::default()
        }
    }

    #[test]
    fn it_fits_whatever_there_is() {
        let downloaded = Some("11.20 GB downloaded".to_owned());
        let phase = Some("2/3 predictions".to_owned());
        for line in [of_bytes(), Line { phase, ..of_bytes() }, Line { downloaded, ..of_bytes() }] {
            for columns in 20..=220 {
                let text = line.with_bar(columns);
                assert!(text.chars().count() <= columns, "{columns}: {text}");
            }
            for columns in 60..=220 {
                let text = line.with_bar(columns);
                for part in [" 45 %", "1 min 20 s left", "=>"] {
                    assert!(text.contains(part), "{columns}: {text}");
                }
            }
            for part in ["653.2 MB/s", "5.62 of 12.49 GB", "blk.12.ffn_down.weight"] {
                assert!(line.with_bar(200).contains(part) && line.plain().contains(part), "{}", line.plain());
            }
        }
        assert_eq!(of_bytes().with_bar(60), "[===>    ]   45 %  653.2 MB/s  1 min 20 s left   blk.12.ffn_");
        assert_eq!(
            of_bytes().with_bar(80),
            "[===>    ]   45 %   5.62 of 12.49 GB  653.2 MB/s  1 min 20 s left   blk.12.ffn_d"
        );
        assert_eq!(
            of_bytes().plain(),
            " 45 %   5.62 of 12.49 GB  653.2 MB/s  1 min 20 s left  blk.12.ffn_down.weight"
        );
    }

    #[test]
    fn the_ends_are_ends() {
        let line = |part| Line { part, ..Line::default() }.with_bar(40);
        assert_eq!(line(0.0), "[>       ]    0 %");
        assert_eq!(line(0.999), "[=======>]   99 %");
        assert_eq!(line(1.0), "[========]  100 %");
        assert_eq!(line(7.0), "[========]  100 %");
    }

    #[test]
    fn a_time_has_its_two_largest_units() {
        let text = |seconds| left(Duration::from_secs_f64(seconds));
        let expected = ["59 s left", "1 min 0 s left", "59 min 59 s left", "2 h 5 min left"];
        assert_eq!([59.4, 59.6, 3599.4, 7512.0].map(text), expected);
    }
}

//! How the page writes text and numbers: nothing of a file becomes markup, and nothing is "NaN" or "5e-13".

/// Text that strangers may have written, for HTML.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            c if c.is_control() && c != '\n' => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

pub(super) fn count(n: u64) -> String {
    match n {
        1_000_000_000.. => format!("{:.2} billion", n as f64 / 1e9),
        1_000_000.. => format!("{:.2} million", n as f64 / 1e6),
        _ => glm2llama::units::grouped(n),
    }
}

const NO_NUMBER: &str = "no number";

/// A divergence in nats.
pub(super) fn kl(x: f64) -> String {
    match x {
        _ if !x.is_finite() => NO_NUMBER.to_owned(),
        ..1e-9 => "0".to_owned(), // the order of sums
        ..1e-4 => "below 0.0001".to_owned(),
        _ => format!("{x:.4}"),
    }
}

pub(super) fn perplexity(x: f64) -> String {
    match x {
        _ if !x.is_finite() => NO_NUMBER.to_owned(),
        ..1e3 => format!("{x:.2}"),
        ..1e6 => glm2llama::units::grouped(x as u64),
        _ => "over a million".to_owned(),
    }
}

/// An error as a part of a tensor's own size.
pub(super) fn relative(x: f64) -> String {
    match 100.0 * x {
        percent if !percent.is_finite() => "no number".to_owned(),
        0.0 => "0".to_owned(),
        ..0.001 => "below 0.001 %".to_owned(),
        1000.0.. => "over 1,000 %".to_owned(),
        percent => format!("{percent:.3} %"),
    }
}

/// A signal to noise ratio; none: no noise.
pub(super) fn decibels(snr: Option<f64>) -> String {
    match snr {
        None => "exact".to_owned(),
        Some(snr) if snr.is_finite() => format!("{snr:.1} dB"),
        Some(_) => NO_NUMBER.to_owned(),
    }
}

pub(super) fn small(x: f64) -> String {
    match x {
        _ if !x.is_finite() => NO_NUMBER.to_owned(),
        0.0 => "0".to_owned(),
        1e-3.. => format!("{x:.4}"),
        _ => format!("{:.1} × 10<sup>−6</sup>", x * 1e6),
    }
}

pub(super) fn used(part: f32) -> String {
    if part.is_finite() && part < 100.0 { format!("{:.0} %", 100.0 * part) } else { "far over".to_owned() }
}

/// A point in time, in seconds since 1970, as UTC's date and time of day (days from the civil calendar's rule: a
/// leap day each 4 years, not each 100, but each 400).
pub(super) fn date(seconds: u64) -> String {
    let leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let (mut days, of_day) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02} {:02}:{:02} UTC", days + 1, of_day / 3600, of_day / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_file_becomes_markup() {
        assert_eq!(escape("<script>\"&\u{1b}[31m"), "&lt;script&gt;&quot;&amp;\\u{1b}[31m");
    }

    #[test]
    fn what_is_no_number_is_said_in_words() {
        for write in [kl, perplexity, relative, small, |x| decibels(Some(x))] {
            for x in [f64::NAN, f64::INFINITY] {
                assert_eq!(write(x), "no number");
            }
            assert!(!write(5e-13).contains("e-"));
        }
        assert_eq!(used(f32::NAN), "far over");
    }

    #[test]
    fn dates_are_the_calendars() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59 UTC"),
            (1_798_761_599, "2026-12-31 23:59 UTC"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }
}

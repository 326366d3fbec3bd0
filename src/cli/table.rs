//! Tables that fit a terminal of 80 columns.

/// Columns that every terminal has.
pub(super) const WIDTH: usize = 80;

/// On which side a column's texts stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Lines of two spaces before every cell, each column as wide as its longest text.
pub(super) fn lines<const N: usize>(rows: &[[String; N]], sides: [Side; N]) -> Vec<String> {
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cell = |i: usize| match (sides[i], widths[i]) {
            (Side::Left, width) => format!("  {:width$}", row[i]),
            (Side::Right, width) => format!("  {:>width$}", row[i]),
        };
        (0..N).map(cell).collect::<String>().trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// The beginning of a text that is too long.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(3)).collect::<String>() + "..."
}

/// The end of a text that is too long: of a file's name, for files of a model differ there.
pub(super) fn cut_front(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().skip(count - most.saturating_sub(3)).collect();
    format!("...{kept}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_texts() {
        let rows = [["a", "1,000", "x"], ["name", "7", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(
            lines(&rows, [Side::Left, Side::Right, Side::Left]),
            ["  a     1,000  x", "  name      7"]
        );
    }

    #[test]
    fn what_is_cut_says_so() {
        let name = "ChatGLM3-6B-Q4_K_M.gguf";
        assert_eq!((cut(name, 23), cut_front(name, 23)), (name.to_owned(), name.to_owned()));
        assert_eq!(
            (cut(name, 10), cut_front(name, 15)),
            ("ChatGLM...".to_owned(), "...-Q4_K_M.gguf".to_owned())
        );
        assert_eq!(
            (cut("模型名称", 4), cut_front("模型名称五", 4)),
            ("模型名称".to_owned(), "...五".to_owned())
        );
    }
}

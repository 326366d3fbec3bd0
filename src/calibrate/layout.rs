//! How much of the second moments `best` has in memory at a time, and what that comes to.

use std::num::NonZero;
use std::ops::Range;

use super::WINDOW;
use super::sample::held_out;
use crate::model::Model;
use crate::units::grouped;

/// Columns of a part are a multiple of the largest block's where the matrix's are, else of the small ones'.
const BLOCKS: [usize; 2] = [256, 32];
/// Windows that are run together where memory is not short.
const WINDOWS: usize = 4;
/// Rows of a matrix that one worker has in hand, where memory is not short.
const ROWS: usize = 128;
/// The fewest, for the kernels take so many side by side.
pub(super) const FEWEST_ROWS: usize = 16;
/// Rows of a matrix that are made before they are put on disk.
pub(super) const ROWS_AT_A_TIME: usize = 4096;
/// Bytes of a weight at work: itself, what it became, its error, and its level.
const AT_WORK: usize = 20;
/// What a worker takes while the model is run: a block of weights, as stored and as f32.
pub(super) const WORKER: usize = 16 << 20;
/// Workers that have room in any case.
pub(super) const WORKERS: usize = 2;
/// The program, its vocabulary and the headers of files.
pub(super) const PROGRAM: usize = 40 << 20;

/// What is gathered and run together. All but `free` decides bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MomentLayout {
    /// Columns whose moments are gathered together, at most.
    pub most_columns: usize,
    /// Windows that are run together.
    pub windows: usize,
    /// What is left for workers, in bytes, where there is a bound; it changes no bit.
    free: Option<usize>,
}

impl Default for MomentLayout {
    fn default() -> MomentLayout {
        MomentLayout { most_columns: usize::MAX, windows: WINDOWS, free: None }
    }
}

/// What one worker does at a time, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Workers {
    pub threads: NonZero<usize>,
    pub rows: usize,
}

impl MomentLayout {
    /// The one with the fewest parts with which a run on so many tokens keeps to so many bytes. `ffn`: the feed-forward
    /// width in the file, padded or not.
    ///
    /// # Errors
    /// The least bytes that would do, where these do not.
    pub fn within(model: &Model, ffn: usize, tokens: usize, bytes: u64) -> Result<MomentLayout, u64> {
        let widest = widths(model, ffn).into_iter().map(|(width, _)| width).max().unwrap_or_default();
        let unit = unit(widest);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut least = usize::MAX;
        for parts in 1..=widest.div_ceil(unit).max(1) {
            let columns = (widest / unit).div_ceil(parts) * unit;
            let most_columns = if parts == 1 { usize::MAX } else { columns };
            for windows in [WINDOWS, 1] {
                let layout = MomentLayout { most_columns, windows, free: None };
                let [fixed, workers] = layout.needs(model, ffn, tokens);
                if fixed + workers <= bytes {
                    return Ok(MomentLayout { free: Some(bytes - fixed), ..layout });
                }
                least = least.min(fixed + workers);
            }
        }
        Err(least as u64)
    }

    /// About what a run takes at most, in bytes.
    pub fn memory_bytes(&self, model: &Model, ffn: usize, tokens: usize) -> u64 {
        let [fixed, workers] = self.needs(model, ffn, tokens);
        (fixed + workers) as u64
    }

    /// Whether it gives other bytes than a run without a bound.
    pub fn is_default(&self) -> bool {
        MomentLayout { free: None, ..*self } == MomentLayout::default()
    }

    /// The parts of a matrix's columns: the fewest that are not too wide, as equal as whole blocks allow.
    pub fn parts(&self, columns: usize) -> Vec<Range<usize>> {
        let unit = unit(columns);
        let units = columns.div_ceil(unit);
        let most = (self.most_columns / unit).max(1);
        let parts = units.div_ceil(most).max(1);
        let start = |part: usize| (part * (units / parts) + part.min(units % parts)) * unit;
        (0..parts).map(|part| start(part)..start(part + 1).min(columns)).collect()
    }

    /// What is split, in words: `ffn_down in 4 parts of 3,456 columns`. Nothing where nothing is.
    pub fn splits(&self, model: &Model, ffn: usize) -> Vec<String> {
        let kinds = ["attn_q, attn_k and attn_v", "attn_output", "ffn_gate and ffn_up", "ffn_down", "output"];
        let split = |(name, (width, _)): (&str, (usize, usize))| {
            let parts = self.parts(width);
            let columns = parts.iter().map(Range::len).max().unwrap_or_default();
            let all = parts.iter().all(|part| part.len() == columns);
            let of = if all { "of" } else { "of up to" };
            let columns = grouped(columns as u64);
            (parts.len() > 1).then(|| format!("{name} in {} parts {of} {columns} columns", parts.len()))
        };
        kinds.into_iter().zip(widths(model, ffn)).filter_map(split).collect()
    }

    /// How the work is cut up among so many threads. Fewer run where memory has no room for all.
    pub(super) fn workers(&self, threads: NonZero<usize>, widest: usize) -> Workers {
        let Some(free) = self.free else { return Workers { threads, rows: ROWS } };
        let row = (widest * AT_WORK).max(1);
        let room = free / WORKER.max(FEWEST_ROWS * row);
        let threads = threads.min(NonZero::new(room).unwrap_or(NonZero::<usize>::MIN));
        let rows = (free / threads.get() / row / FEWEST_ROWS * FEWEST_ROWS).clamp(FEWEST_ROWS, ROWS);
        Workers { threads, rows }
    }

    /// What is in memory at the worst moment, in bytes, and what a few workers take besides.
    fn needs(&self, model: &Model, ffn: usize, tokens: usize) -> [usize; 2] {
        let float = size_of::<f32>();
        let groups = widths(model, ffn);
        let held = held_out(tokens / WINDOW).len() * WINDOW;
        let squares = |width: usize, square: fn(usize) -> usize| -> usize {
            self.parts(width).iter().map(|part| float * square(part.len())).sum()
        };
        // While sums are gathered, half a square of each.
        let waiting =
            |(width, inputs): (usize, usize)| squares(width, |n| n * (n + 256) / 2) + float * held * inputs;
        let last = groups.len() - 1; // the output layer's, alone
        let layer = &groups[..last];
        let batch = tokens.min(self.windows * WINDOW);
        let gathering = layer.iter().copied().map(waiting).sum::<usize>() + running(model, batch);
        let refining = |at: usize| {
            let (width, inputs) = groups[at];
            let later = if at < last { &groups[at + 1..last] } else { &[] };
            let most = self.parts(width).iter().map(Range::len).max().unwrap_or_default();
            // The square with room for the factor, a panel twice, rows to try, and what is not on disk yet.
            let rows = 4 * ROWS * width * float + ROWS_AT_A_TIME * width;
            let own = squares(width, |n| n * n) + 2 * 256 * most * float + rows;
            own + float * held * inputs + later.iter().copied().map(waiting).sum::<usize>()
        };
        let refining = (0..groups.len()).map(refining).max().unwrap_or_default();
        let widest = groups.iter().map(|(width, _)| *width).max().unwrap_or_default();
        let between = float * tokens * model.config.hidden_size;
        [PROGRAM + between + gathering.max(refining), WORKERS * WORKER.max(ROWS * widest * AT_WORK)]
    }
}

/// The largest activations while a layer is run, in bytes: two as wide as its network beside those of its inputs.
pub(super) fn running(model: &Model, tokens: usize) -> usize {
    let config = &model.config;
    let (hidden, ffn) = (config.hidden_size, config.ffn_hidden_size);
    let mixed = config.num_attention_heads * config.head_dim;
    size_of::<f32>() * tokens * (2 * ffn + 2 * hidden).max(2 * hidden + 4 * mixed)
}

/// The widths of each kind of inputs in the order in which a layer has them, and of the output layer's: columns in the
/// file, and those that inputs reach.
fn widths(model: &Model, ffn: usize) -> [(usize, usize); 5] {
    let config = &model.config;
    let (hidden, mixed) = (config.hidden_size, config.num_attention_heads * config.head_dim);
    let same = |width| (width, width);
    [same(hidden), same(mixed), same(hidden), (ffn, config.ffn_hidden_size), same(hidden)]
}

fn unit(columns: usize) -> usize {
    BLOCKS.into_iter().find(|block| columns.is_multiple_of(*block)).unwrap_or(BLOCKS[1])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::ModelSource;

    #[test]
    fn parts_are_few_equal_and_of_whole_blocks() {
        let of = |most_columns| MomentLayout { most_columns, ..MomentLayout::default() };
        assert_eq!(of(usize::MAX).parts(13824), vec![0..13824]);
        let sizes = |most, columns: usize| -> Vec<usize> {
            let parts = of(most).parts(columns);
            assert!(parts[0].start == 0 && parts[parts.len() - 1].end == columns);
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
            parts.iter().map(Range::len).collect()
        };
        assert_eq!(sizes(3584, 13824), [3584, 3584, 3328, 3328]);
        assert_eq!(sizes(3584, 4096), [2048, 2048]);
        assert_eq!(sizes(256, 576), [192, 192, 192], "no whole super-blocks: small blocks");
        let narrow = sizes(300, 13696);
        assert!(narrow.len() == 48 && narrow[..44] == [288; 44] && narrow[44..] == [256; 4], "{narrow:?}");
        assert_eq!(sizes(1, 512), [256, 256], "no part is less than a block");
    }

    /// ChatGLM3-6B's shapes, of which only the sizes count.
    #[test]
    fn a_bound_splits_as_little_as_it_must() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/models/tiny-chatglm3");
        let mut model = Model::open(&ModelSource { folder, ..ModelSource::default() }).unwrap();
        (model.config.hidden_size, model.config.ffn_hidden_size) = (4096, 13696);
        (model.config.num_attention_heads, model.config.head_dim) = (32, 128);
        let (ffn, tokens) = (13824, 8192);
        let all = MomentLayout::default().memory_bytes(&model, ffn, tokens);
        assert!((1_000_000_000..1_400_000_000).contains(&all), "{all}");
        let within = |bytes| MomentLayout::within(&model, ffn, tokens, bytes);
        assert!(within(all).unwrap().is_default(), "enough is enough");
        let mut before = usize::MAX;
        let least = within(1).unwrap_err();
        for bytes in [all - 1, 1_000_000_000, 700_000_000, 500_000_000, least] {
            let layout = within(bytes).unwrap();
            assert!(!layout.is_default() && layout.most_columns <= before);
            assert!(layout.memory_bytes(&model, ffn, tokens) <= bytes);
            before = layout.most_columns;
            // Threads have what is left among them, or are fewer.
            let workers = layout.workers(NonZero::new(64).unwrap(), ffn);
            assert!(workers.threads.get() >= WORKERS && workers.rows >= FEWEST_ROWS);
            assert!(workers.threads.get() * workers.rows * ffn * AT_WORK <= layout.free.unwrap());
        }
        assert!(within(least - 1).is_err());
        let said = within(1_000_000_000).unwrap().splits(&model, ffn);
        assert_eq!(said, ["ffn_down in 2 parts of 6,912 columns"]);
    }
}

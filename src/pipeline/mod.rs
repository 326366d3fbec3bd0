//! Reads rows, quantizes them and writes them in the plan's order.
//!
//! A fixed set of buffers goes round: the reader fills one with the next rows of the checkpoint, a rayon
//! worker quantizes them for every output file, the writer puts the results in order and hands the buffer
//! back. So reading, quantizing and writing overlap, and the memory in use is the buffers', whatever the
//! model's size. The bytes written depend on neither the threads nor the buffers' size.

mod check;
mod chunk;
mod encode;
mod order;
mod stream;
mod zeros;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use quant::Backend;

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::importance::Importance;
use crate::lora::Lora;
use crate::remap::Plan;
use crate::sink::{Shape, Sink};
use crate::threads;
use crate::watch::{Step, Watch};
use chunk::{Chunk, Chunks};
use encode::Encoder;
pub use stream::run_streamed;
use zeros::Rows;
pub use zeros::ZeroRows;

/// How to run; nothing in it changes a byte of the output.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Workers that quantize.
    pub threads: NonZero<usize>,
    /// Bytes that all buffers together may take.
    pub memory_bytes: usize,
    /// The instructions to quantize with.
    pub backend: Backend,
}

/// Memory for the buffers: enough to keep two cores busy over a slow disk's pauses, small beside any model.
pub const DEFAULT_MEMORY_BYTES: usize = 96 << 20;

impl Default for Options {
    /// A worker for each core, and the machine's fastest instructions.
    fn default() -> Options {
        Options {
            threads: std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN),
            memory_bytes: DEFAULT_MEMORY_BYTES,
            backend: Backend::detect(),
        }
    }
}

/// What to work on.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    /// The mapping.
    pub plan: &'a Plan,
    /// The weights.
    pub checkpoint: &'a Checkpoint,
    /// The importance of each of the plan's tensors, as wide as its rows in any output; none without a matrix.
    pub importance: Option<&'a [Option<Importance>]>,
    /// What is added to the weights.
    pub lora: &'a Lora,
    /// Blocks that are there already.
    pub ready: Option<&'a dyn Ready>,
}

/// Tensors whose blocks were made before.
pub trait Ready: Debug + Sync {
    /// Appends a tensor's bytes at `place` to `out`; false where it has none of the tensor in this shape.
    ///
    /// # Errors
    /// When they cannot be read.
    fn read(&self, tensor: &str, shape: Shape, place: Range<usize>, out: &mut Vec<u8>) -> Result<bool>;
}

impl Work<'_> {
    /// The importance of the plan's tensor with this number.
    fn importance_of(&self, tensor: usize) -> Option<&Importance> {
        self.importance?.get(tensor)?.as_ref()
    }

    /// Bytes of the checkpoint that a run reads: the measure of its progress.
    pub fn source_bytes(&self) -> u64 {
        Chunks::new(self, 1).total_bytes()
    }
}

/// Fills the outputs, all from one reading of the checkpoint; tells which of its rows are all zero, besides.
///
/// # Errors
/// When the parts of the work were not made for one another, a weight is not finite or cannot be read, an output cannot
/// be written, or the user stops the run.
pub fn run<S: Sink>(
    work: &Work,
    mut outputs: Vec<S>,
    options: Options,
    watch: &dyn Watch,
) -> Result<(Vec<S>, ZeroRows)> {
    let shapes: Vec<Vec<Shape>> = outputs.iter().map(Sink::shapes).collect();
    check::refuse_mixed(work, &shapes)?;
    let encoder = Encoder::new(work, shapes, options.backend);
    // Two buffers a worker are at work or ready for it, and a few more are on their way in or out.
    let buffers = 3 * options.threads.get() + 3;
    let chunks = Chunks::new(work, options.memory_bytes / buffers / (1 + encoder.growth()));
    let pool = threads::workers(options.threads)?;

    let (free_sender, free) = empty_buffers(buffers);
    let (done_sender, done) = channel();
    let failed = AtomicBool::new(false);
    let zero_rows = std::thread::scope(|scope| {
        let (encoder, failed) = (&encoder, &failed);
        let read = move || {
            pool.in_place_scope(|workers| {
                for (number, chunk) in chunks.enumerate() {
                    let Ok(mut buffer) = free.recv() else { return }; // the writer gave up
                    if failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = chunk.read(work, &mut buffer.input);
                    let done = done_sender.clone();
                    workers.spawn(move |_| {
                        let outcome =
                            outcome.and_then(|()| encoder.encode(&chunk, &buffer.input, &mut buffer.outputs));
                        let _ = done.send(Done { number, chunk, outcome, buffer });
                    });
                }
            })
        };
        scope.spawn(read);
        let written = write_in_order(&done, &free_sender, encoder, &mut outputs, watch);
        failed.store(true, Ordering::Relaxed);
        drop(free_sender);
        written
    })?;
    Ok((outputs, zero_rows))
}

/// So many buffers on their way, and where they come back to.
fn empty_buffers(count: usize) -> (Sender<Buffer>, Receiver<Buffer>) {
    let (sender, free) = channel();
    for _ in 0..count {
        let _ = sender.send(Buffer::default()); // the other end is here
    }
    (sender, free)
}

/// The memory of one chunk's way through the pipeline.
#[derive(Default)]
struct Buffer {
    /// Rows as the checkpoint stores them.
    input: Vec<u8>,
    /// The same rows for each output file.
    outputs: Vec<Vec<u8>>,
}

struct Done {
    number: usize,
    chunk: Chunk,
    /// Which of the tensor's rows are all zero.
    outcome: Result<Rows>,
    buffer: Buffer,
}

fn write_in_order(
    done: &Receiver<Done>,
    free: &Sender<Buffer>,
    encoder: &Encoder,
    outputs: &mut [impl Sink],
    watch: &dyn Watch,
) -> Result<ZeroRows> {
    let mut zero_rows = ZeroRows::new(encoder.work.plan);
    let total = encoder.work.source_bytes();
    let mut early = BTreeMap::new();
    let mut next = 0;
    let mut source_bytes = 0;
    // Ends when the reader and all workers have dropped their senders.
    for finished in done {
        early.insert(finished.number, finished);
        while let Some(Done { chunk, outcome, buffer, .. }) = early.remove(&next) {
            zero_rows.add(chunk.tensor, outcome?);
            watch.go_on()?;
            for (i, output) in outputs.iter_mut().enumerate() {
                if encoder.copies(chunk.tensor, i) {
                    output.write(chunk.tensor, &buffer.input)?;
                }
                if !buffer.outputs[i].is_empty() {
                    output.write(chunk.tensor, &buffer.outputs[i])?;
                }
            }
            source_bytes += buffer.input.len() as u64;
            let at = &encoder.work.plan.tensors[chunk.tensor].name;
            watch.advanced(&Step { at, done: source_bytes, total, downloaded: None });
            let _ = free.send(buffer);
            next += 1;
        }
    }
    Ok(zero_rows)
}

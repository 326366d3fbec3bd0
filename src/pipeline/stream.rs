//! The pipeline for files that come front to back: a few at once, each piece quantized and written to its place.
//!
//! The buffers go round as in [`run`](super::run), so that whoever sends the files is slowed down to the workers' pace,
//! and the memory in use is the same whatever the model's size. No byte of the output differs: rows are quantized one
//! by one, and where each belongs is known beforehand.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rayon::Scope;

use super::chunk::{Chunk, Chunks, set_length};
use super::encode::Encoder;
use super::order::{Piece, pieces};
use super::{Buffer, Options, Rows, Work, ZeroRows, check, empty_buffers};
use crate::error::{Error, Result};
use crate::remap::Source;
use crate::sink::{PlacedSink, Shape, Sink};
use crate::threads;
use crate::watch::{Step, Watch};

/// Files that come at the same time: one connection alone is seldom as fast as a line.
const FILES_AT_ONCE: usize = 4;
/// How long a wish to stop may wait.
const PATIENCE: Duration = Duration::from_millis(100);
/// Bytes at a time of what no tensor needs.
const SKIPPED: usize = 64 << 10;

/// Fills the outputs from a checkpoint whose files come from elsewhere; tells which of its rows are all zero, besides.
///
/// # Errors
/// As for [`run`](super::run), and when a file cannot be read to its end or is not what its hash says.
pub fn run_streamed<S: PlacedSink>(
    work: &Work,
    mut outputs: Vec<S>,
    options: Options,
    watch: &dyn Watch,
) -> Result<(Vec<S>, ZeroRows)> {
    let shapes: Vec<Vec<Shape>> = outputs.iter().map(Sink::shapes).collect();
    check::refuse_mixed(work, &shapes)?;
    let encoder = Encoder::new(work, shapes.clone(), options.backend);
    let streams = FILES_AT_ONCE.min(work.checkpoint.file_count());
    let buffers = 3 * options.threads.get() + 3 + streams;
    let chunk_bytes = options.memory_bytes / buffers / (1 + encoder.growth());
    let pieces = pieces(work, chunk_bytes)?;
    let pool = threads::workers(options.threads)?;

    let (free_sender, free) = empty_buffers(buffers);
    let (done_sender, done) = channel();
    let feed = Feed {
        work,
        encoder: &encoder,
        pieces: &pieces,
        next: AtomicUsize::new(0),
        free: Mutex::new(free),
        ended: Arc::new(AtomicBool::new(false)),
        received: AtomicU64::new(0),
    };
    let zero_rows = std::thread::scope(|scope| {
        let (feed, pool) = (&feed, &pool);
        scope.spawn(move || {
            pool.in_place_scope(|workers| {
                std::thread::scope(|readers| {
                    for _ in 0..streams {
                        let done = done_sender.clone();
                        readers.spawn(move || feed.read_files(workers, &done));
                    }
                    feed.compute_values(workers, &done_sender, chunk_bytes);
                    drop(done_sender);
                });
            });
        });
        let written = write_to_places(&done, &free_sender, feed, &shapes, &mut outputs, watch);
        feed.ended.store(true, Ordering::Relaxed);
        drop(free_sender);
        written
    })?;
    Ok((outputs, zero_rows))
}

/// A chunk that was quantized, and how many of its rows are all zero.
struct Encoded {
    chunk: Chunk,
    zero_rows: Rows,
    buffer: Buffer,
}

/// What the readers share.
struct Feed<'a> {
    work: &'a Work<'a>,
    encoder: &'a Encoder<'a>,
    /// By file.
    pieces: &'a [Vec<Piece>],
    /// The first file that nobody reads yet.
    next: AtomicUsize,
    free: Mutex<Receiver<Buffer>>,
    /// The writer has given up.
    ended: Arc<AtomicBool>,
    /// Bytes that have come, those that no tensor needs too.
    received: AtomicU64,
}

impl<'a> Feed<'a> {
    /// Reads files until there are no more.
    fn read_files<'s>(&'s self, workers: &Scope<'s>, done: &Sender<Result<Encoded>>) {
        loop {
            let file = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(pieces) = self.pieces.get(file) else { return };
            if let Err(error) = self.read_file(file, pieces, workers, done) {
                let _ = done.send(Err(error)); // nobody listens when another error came first
                return;
            }
        }
    }

    fn read_file<'s>(
        &'s self,
        file: usize,
        pieces: &[Piece],
        workers: &Scope<'s>,
        done: &Sender<Result<Encoded>>,
    ) -> Result<()> {
        let (path, mut stream) = self.work.checkpoint.stream(file, Arc::clone(&self.ended))?;
        let mut at = 0;
        for Piece { bytes, chunks } in pieces {
            self.skip(&mut stream, bytes.start - at).map_err(Error::io(path, "read"))?;
            at = bytes.end;
            let Some(mut buffer) = self.free_buffer() else { return Ok(()) };
            set_length(&mut buffer.input, (bytes.end - bytes.start) as usize);
            stream.read_exact(&mut buffer.input).map_err(Error::io(path, "read"))?;
            self.receive(buffer.input.len());
            let Some((last, others)) = chunks.split_last() else { continue };
            for chunk in others {
                let Some(mut copy) = self.free_buffer() else { return Ok(()) };
                copy.input.clone_from(&buffer.input);
                self.encode(chunk.clone(), copy, workers, done);
            }
            self.encode(last.clone(), buffer, workers, done);
        }
        // To the end, where the stream judges the whole.
        self.skip(&mut stream, u64::MAX).map_err(Error::io(path, "read"))
    }

    /// Reads and drops bytes, or all that there are when they are fewer.
    fn skip(&self, stream: &mut dyn Read, mut bytes: u64) -> io::Result<()> {
        let mut dropped = [0; SKIPPED];
        while bytes > 0 && !self.ended.load(Ordering::Relaxed) {
            match stream.read(&mut dropped[..bytes.min(SKIPPED as u64) as usize])? {
                0 => break,
                read => {
                    self.receive(read);
                    bytes -= read as u64;
                }
            }
        }
        Ok(())
    }

    fn receive(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// None when the writer has given up.
    fn free_buffer(&self) -> Option<Buffer> {
        let buffer = self.free.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()?;
        (!self.ended.load(Ordering::Relaxed)).then_some(buffer)
    }

    fn encode<'s>(
        &'s self,
        chunk: Chunk,
        mut buffer: Buffer,
        workers: &Scope<'s>,
        done: &Sender<Result<Encoded>>,
    ) {
        let done = done.clone();
        workers.spawn(move |_| {
            let outcome = self.encoder.encode(&chunk, &buffer.input, &mut buffer.outputs);
            let _ = done.send(outcome.map(|zero_rows| Encoded { chunk, zero_rows, buffer }));
        });
    }

    /// The tensors that come from no file.
    fn compute_values<'s>(&'s self, workers: &Scope<'s>, done: &Sender<Result<Encoded>>, chunk_bytes: usize) {
        let computed =
            |chunk: &Chunk| matches!(self.work.plan.tensors[chunk.tensor].source, Source::Values(_));
        for chunk in Chunks::new(self.work, chunk_bytes).filter(computed) {
            let Some(mut buffer) = self.free_buffer() else { return };
            match chunk.read(self.work, &mut buffer.input) {
                Ok(()) => self.encode(chunk, buffer, workers, done),
                Err(error) => return drop(done.send(Err(error))),
            }
        }
    }
}

fn write_to_places(
    done: &Receiver<Result<Encoded>>,
    free: &Sender<Buffer>,
    feed: &Feed,
    shapes: &[Vec<Shape>],
    outputs: &mut [impl PlacedSink],
    watch: &dyn Watch,
) -> Result<ZeroRows> {
    let mut zero_rows = ZeroRows::new(feed.work.plan);
    let total = feed.work.source_bytes();
    let mut source_bytes = 0;
    loop {
        let encoded = done.recv_timeout(PATIENCE);
        watch.go_on()?;
        let Encoded { chunk, zero_rows: zero, buffer } = match encoded {
            Ok(encoded) => encoded?,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(zero_rows), // all readers and workers are done
        };
        zero_rows.add(chunk.tensor, zero);
        for (i, output) in outputs.iter_mut().enumerate() {
            let passed: &[u8] = if feed.encoder.copies(chunk.tensor, i) { &buffer.input } else { &[] };
            let mut at = chunk.rows.start as u64 * row_bytes(shapes[i][chunk.tensor])?;
            for bytes in [passed, &buffer.outputs[i]] {
                output.write_at(chunk.tensor, at, bytes)?;
                at += bytes.len() as u64;
            }
        }
        source_bytes += buffer.input.len() as u64;
        let at = &feed.work.plan.tensors[chunk.tensor].name;
        let downloaded = Some(feed.received.load(Ordering::Relaxed));
        watch.advanced(&Step { at, done: source_bytes, total, downloaded });
        let _ = free.send(buffer);
    }
}

fn row_bytes(shape: Shape) -> Result<u64> {
    let bytes = shape.format.row_bytes(shape.columns);
    bytes.map(|bytes| bytes as u64).ok_or_else(|| Error::Internal("rows of part blocks".to_owned()))
}

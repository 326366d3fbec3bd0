//! The files of weights on a hub: their headers by ranges, and all of them front to back.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::client::Client;
use super::keep::{Kept, KeptFile};
use super::listing::{Entry, Judge, RUN_AGAIN};
use super::pump::Pump;
use super::repository::Repository;
use super::transfer::Wanted;
use crate::checkpoint::Remote;
use crate::error::{Error, Result};
use crate::input::{Held, ReadAt};
use crate::system;

/// A header is read in blocks of so many bytes.
const BLOCK: u64 = 16 << 10;
/// Blocks of one file's header: a ZIP of 300 tensors has 300 in as many places.
const MOST_BLOCKS: usize = 2048;
/// Bytes of a file in a cache that are read at a time.
const LOCAL_BLOCK: u64 = 1 << 20;

/// The files of weights of a repository.
#[derive(Debug)]
pub(super) struct Shards {
    client: Arc<Client>,
    shards: BTreeMap<String, Arc<Shard>>,
    kept: Vec<Kept>,
    /// Where they are to be stored too.
    keep: Option<Kept>,
    /// SHA-256 of each that has come by whole and was right.
    judged: Arc<Mutex<BTreeMap<String, String>>>,
    /// The small files, which go with it.
    _folder: Held,
}

#[derive(Debug)]
struct Shard {
    name: String,
    wanted: Wanted,
    entry: Entry,
    /// What was read of the header, by the number of the block.
    seen: Mutex<BTreeMap<u64, Vec<u8>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shards {
    /// `kept`: caches that may have some of them already.
    pub(super) fn new(
        repository: &Repository,
        names: &[String],
        kept: Vec<Kept>,
        keep: Option<Kept>,
        folder: Held,
    ) -> Shards {
        let shard = |name: &String| {
            let (wanted, entry) = repository.wanted(name)?;
            let entry = entry.clone();
            Some((
                name.clone(),
                Arc::new(Shard { name: name.clone(), wanted, entry, seen: Mutex::default() }),
            ))
        };
        Shards {
            client: Arc::clone(&repository.client),
            shards: names.iter().filter_map(shard).collect(),
            kept,
            keep,
            judged: Arc::default(),
            _folder: folder,
        }
    }

    fn find(&self, name: &str) -> Result<&Arc<Shard>> {
        self.shards.get(name).ok_or_else(|| {
            Error::file_mismatch(Path::new(name), "no such file on the hub", "every shard in its list")
        })
    }

    /// The file in a cache, if one has it.
    fn local(&self, shard: &Shard) -> Result<Option<(PathBuf, File)>> {
        let mut there =
            self.kept.iter().chain(&self.keep).filter_map(|kept| kept.find(&shard.name, &shard.entry));
        let open = |path: PathBuf| {
            let file = system::open(&path).map_err(Error::io(&path, "open"))?;
            Ok((path, file))
        };
        there.next().map(open).transpose()
    }
}

impl Remote for Shards {
    fn open(&self, name: &str) -> Result<Box<dyn ReadAt>> {
        let shard = self.find(name)?;
        Ok(match self.local(shard)? {
            Some((_, file)) => Box::new(file),
            None => Box::new(HeaderReader { client: Arc::clone(&self.client), shard: Arc::clone(shard) }),
        })
    }

    fn stream(&self, name: &str, ended: Arc<AtomicBool>) -> Result<Box<dyn Read + Send>> {
        let shard = self.find(name)?;
        let keep = self.keep.as_ref().filter(|keep| keep.find(name, &shard.entry).is_none());
        let mut keep = keep.map(|keep| keep.begin(name, &shard.entry)).transpose()?;
        let mut file = shard.wanted.file.clone();
        let from = match (self.local(shard)?, keep.take_if(|kept| kept.there() > 0)) {
            (Some((path, cached)), begun) => {
                keep = keep.or(begun);
                keep.as_mut().map_or(Ok(()), KeptFile::restart)?;
                file = path;
                From::Cache(cached)
            }
            (None, Some(begun)) => From::Begun(begun),
            (None, None) => From::Hub(Pump::start(&self.client, &shard.wanted, 0..shard.entry.bytes)),
        };
        Ok(Box::new(Stream {
            client: Arc::clone(&self.client),
            shard: Arc::clone(shard),
            file,
            from,
            ended,
            block: Vec::new(),
            taken: 0,
            at: 0,
            judge: Some(Judge::new(&shard.entry)),
            judged: Arc::clone(&self.judged),
            keep,
        }))
    }

    fn known(&self, name: &str) -> Option<(u64, String)> {
        Some((self.shards.get(name)?.entry.bytes, lock(&self.judged).get(name)?.clone()))
    }
}

/// A file whose header is read.
#[derive(Debug)]
struct HeaderReader {
    client: Arc<Client>,
    shard: Arc<Shard>,
}

impl HeaderReader {
    /// Fetches the blocks from `first` to `last` that are not there yet, with all between them, in one request.
    fn fetch(&self, first: u64, last: u64) -> Result<()> {
        let Shard { wanted, entry, seen, .. } = &*self.shard;
        let missing: Vec<u64> = {
            let seen = lock(seen);
            (first..=last).filter(|block| !seen.contains_key(block)).collect()
        };
        let (Some(first), Some(last)) = (missing.first(), missing.last()) else { return Ok(()) };
        if lock(seen).len() + (last - first + 1) as usize > MOST_BLOCKS {
            let found = format!("a header in over {MOST_BLOCKS} places");
            return Err(Error::file_mismatch(
                &wanted.file,
                found,
                "one of a checkpoint's few hundred tensors",
            ));
        }
        let range = first * BLOCK..entry.bytes.min((last + 1) * BLOCK);
        let bytes = Pump::all(&self.client, wanted, range)?;
        let blocks = (*first..).zip(bytes.chunks(BLOCK as usize).map(<[u8]>::to_vec));
        lock(seen).extend(blocks);
        Ok(())
    }
}

impl ReadAt for HeaderReader {
    fn length(&self) -> io::Result<u64> {
        Ok(self.shard.entry.bytes)
    }

    fn metadata(&self) -> io::Result<Option<Metadata>> {
        Ok(None) // a commit's file does not change
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.saturating_add(out.len() as u64);
        if end > self.shard.entry.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if out.is_empty() {
            return Ok(());
        }
        self.fetch(offset / BLOCK, (end - 1) / BLOCK).map_err(io::Error::other)?;
        let seen = lock(&self.shard.seen);
        let mut at = offset;
        let mut rest = out;
        while !rest.is_empty() {
            let skipped = (at % BLOCK) as usize;
            let block = seen.get(&(at / BLOCK)).and_then(|block| block.get(skipped..));
            let block = block.filter(|block| !block.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
            let (part, after) = rest.split_at_mut(rest.len().min(block.len()));
            part.copy_from_slice(&block[..part.len()]);
            at += part.len() as u64;
            rest = after;
        }
        Ok(())
    }
}

#[derive(Debug)]
enum From {
    Hub(Pump),
    Cache(File),
    /// An earlier run has kept a part of it.
    Begun(KeptFile),
    /// Nothing more comes.
    Ended,
}

/// A file on its way, front to back.
#[derive(Debug)]
struct Stream {
    client: Arc<Client>,
    shard: Arc<Shard>,
    /// What to call it: the hub's, or the cache's own.
    file: PathBuf,
    from: From,
    ended: Arc<AtomicBool>,
    block: Vec<u8>,
    /// How much of the block was taken.
    taken: usize,
    /// The first byte behind the block.
    at: u64,
    /// Gone when the file was judged.
    judge: Option<Judge>,
    judged: Arc<Mutex<BTreeMap<String, String>>>,
    keep: Option<KeptFile>,
}

impl Stream {
    /// Gets the next block, or judges the file behind its last one.
    fn advance(&mut self) -> Result<()> {
        self.taken = 0;
        if let From::Begun(_) = &self.from
            && let From::Begun(kept) = std::mem::replace(&mut self.from, From::Ended)
        {
            self.complete(kept)?;
        }
        self.block = match &mut self.from {
            From::Begun(_) | From::Ended => Vec::new(),
            From::Hub(pump) => pump.next(&self.ended)?.unwrap_or_default(),
            From::Cache(file) => {
                let mut block = Vec::new();
                let read = file.by_ref().take(LOCAL_BLOCK).read_to_end(&mut block);
                read.map_err(Error::io(&self.file, "read"))?;
                block
            }
        };
        if self.block.is_empty() {
            return self.finish();
        }
        self.compare_with_header()?;
        if let Some(judge) = &mut self.judge {
            judge.add(&self.block);
        }
        if let Some(keep) = &mut self.keep {
            keep.write(&self.block)?;
        }
        self.at += self.block.len() as u64;
        Ok(())
    }

    /// Fetches what is behind the bytes that an earlier run has kept. They may be any bytes, so nothing is handed on
    /// before the whole is judged; when it is not the file, all of it is asked for.
    fn complete(&mut self, mut kept: KeptFile) -> Result<()> {
        let Shard { wanted, entry, .. } = &*self.shard;
        let (shown, there) = (wanted.file.display(), kept.there());
        self.client
            .tell(&format!("{shown}: {there} of {} bytes are kept already: getting the rest", entry.bytes));
        let mut judge = Judge::new(entry);
        kept.read_there(&mut |block| {
            judge.add(block);
            self.client.go_on()
        })?;
        let pump = Pump::behind(&self.client, wanted, there);
        while let Some(block) = pump.next(&self.ended)? {
            judge.add(&block);
            kept.write(&block)?;
        }
        if judge.end(&wanted.file, RUN_AGAIN).is_ok() {
            self.file = kept.finish()?;
            self.from = From::Cache(system::open(&self.file).map_err(Error::io(&self.file, "open"))?);
            return Ok(());
        }
        self.client.tell(&format!("{shown}: what was kept of it is damaged: getting all of it"));
        kept.restart()?;
        self.keep = Some(kept);
        self.from = From::Hub(Pump::start(&self.client, wanted, 0..entry.bytes));
        Ok(())
    }

    /// The header came by ranges, whose bytes no hash covers: the same bytes come by here.
    fn compare_with_header(&self) -> Result<()> {
        let (start, end) = (self.at, self.at + self.block.len() as u64);
        for (number, header) in lock(&self.shard.seen).range(start / BLOCK..=end / BLOCK) {
            let first = number * BLOCK;
            let from = first.max(start);
            let to = (first + header.len() as u64).min(end);
            if from < to
                && header[(from - first) as usize..(to - first) as usize]
                    != self.block[(from - start) as usize..(to - start) as usize]
            {
                let found = format!("other bytes in the header, from {from} on, than at first");
                return Err(Error::file_mismatch(&self.file, found, "the same: run again"));
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let Some(judge) = self.judge.take() else { return Ok(()) };
        if self.at != self.shard.entry.bytes {
            let expected = format!("{} by the hub's own list", self.shard.entry.bytes);
            return Err(Error::file_mismatch(&self.file, format!("{} bytes", self.at), expected));
        }
        let remedy = match self.from {
            From::Cache(_) => "delete the file and run again, and it is fetched",
            _ => RUN_AGAIN,
        };
        let keep = self.keep.take();
        match (judge.end(&self.file, remedy), keep) {
            (Ok(sha256), keep) => {
                lock(&self.judged).insert(self.shard.name.clone(), sha256);
                keep.map_or(Ok(()), |keep| keep.finish().map(|_| ()))
            }
            (Err(error), keep) => {
                keep.map_or(Ok(()), |mut keep| keep.restart())?; // damaged bytes are of no use to the next run
                Err(error)
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.block.len() {
            self.advance().map_err(io::Error::other)?;
        }
        let rest = &self.block[self.taken..];
        let size = rest.len().min(out.len());
        out[..size].copy_from_slice(&rest[..size]);
        self.taken += size;
        Ok(size)
    }
}

//! The part of Python's pickle format that `torch.save` writes for a dictionary of tensors, read as data.
//!
//! A pickle is a program for a stack machine that may call anything in Python. Here nothing is called: three
//! functions and the storage classes are known by name and stand for what they would build, everything else is
//! refused. Values live in one list and refer to each other by place, so nothing is ever copied or followed
//! deeper than asked: neither a "memo bomb" nor nesting costs more than the pickle's own length.

use std::collections::{HashMap, HashSet};

use super::opcode as op;
use crate::error::Problem;

/// Values that one pickle may build; a real shard of 40 layers builds some 8,000.
const MAX_VALUES: usize = 1 << 16;
/// PyTorch has tensors of more dimensions; no checkpoint has. A tuple can be used again and again for 2 bytes.
const MAX_DIMENSIONS: usize = 8;

type Result<T> = crate::error::Result<T, Problem>;

/// A tensor as the pickle describes it. Nothing of it is checked against the file yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Saved<'a> {
    /// The storage class without its module and `Storage`, `Half` for instance.
    pub(super) kind: &'a str,
    /// The storage's name in the archive.
    pub(super) key: &'a str,
    /// Values in the storage.
    pub(super) storage_len: u64,
    /// The tensor's first value, counted in values.
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    pub(super) strides: Vec<u64>,
}

/// Reads a pickled dictionary of tensors, in its order.
pub(super) fn tensors(pickle: &[u8]) -> Result<Vec<(&str, Saved<'_>)>> {
    let mut machine = Machine { pickle, ..Machine::default() };
    let top = machine.run()?;
    let Value::Dict(entries) = &machine.values[top] else {
        return wrong("", machine.values[top].kind(), "a dictionary of tensors");
    };
    let mut names = HashSet::new();
    let mut tensors = Vec::new();
    for (key, value) in entries {
        match (&machine.values[*key], &machine.values[*value]) {
            (Value::Text(name), Value::Tensor(_)) if !names.insert(*name) => {
                return wrong(name, "it twice", "each tensor once");
            }
            (Value::Text(name), Value::Tensor(saved)) => tensors.push((*name, (**saved).clone())),
            (Value::Text(name), other) => return wrong(name, other.kind(), "a tensor"),
            (other, _) => return wrong("", format_args!("{} as a key", other.kind()), "a tensor's name"),
        }
    }
    Ok(tensors)
}

/// A place in [`Machine::values`].
type ValueId = usize;

#[derive(Debug)]
enum Value<'a> {
    None,
    Bool,
    Int(i64),
    Text(&'a str),
    Tuple(Vec<ValueId>),
    Dict(Vec<(ValueId, ValueId)>),
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    StorageClass(&'a str),
    Storage { kind: &'a str, key: &'a str, len: u64 },
    Tensor(Box<Saved<'a>>),
}

impl Value<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool => "True or False",
            Value::Int(_) => "a number",
            Value::Text(_) => "a text",
            Value::Tuple(_) => "a tuple",
            Value::Dict(_) => "a dictionary",
            Value::OrderedDict | Value::RebuildTensor | Value::RebuildParameter => "a function",
            Value::StorageClass(_) => "a class",
            Value::Storage { .. } => "a storage",
            Value::Tensor(_) => "a tensor",
        }
    }
}

#[derive(Default)]
struct Machine<'a> {
    pickle: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<ValueId>,
    /// Heights of the stack, put down for an instruction that takes everything above.
    marks: Vec<usize>,
    memo: HashMap<u32, ValueId>,
}

impl<'a> Machine<'a> {
    /// Runs up to the end and returns the one value left.
    fn run(&mut self) -> Result<ValueId> {
        let [first, version] = self.bytes()?;
        if (first, version) != (op::PROTO, 2) {
            return wrong("", format_args!("bytes {first:#04x} {version:#04x}"), "pickle protocol 2");
        }
        loop {
            let [code] = self.bytes()?;
            match code {
                op::STOP => break,
                op::MARK => self.marks.push(self.stack.len()),
                op::NONE => self.push(Value::None)?,
                op::NEWTRUE | op::NEWFALSE => self.push(Value::Bool)?,
                op::BININT1 => {
                    let [value] = self.bytes()?;
                    self.push(Value::Int(value.into()))?;
                }
                op::BININT2 => {
                    let value = u16::from_le_bytes(self.bytes()?);
                    self.push(Value::Int(value.into()))?;
                }
                op::BININT => {
                    let value = i32::from_le_bytes(self.bytes()?);
                    self.push(Value::Int(value.into()))?;
                }
                op::LONG1 => {
                    let value = self.long()?;
                    self.push(Value::Int(value))?;
                }
                op::BINUNICODE => {
                    let len = u32::from_le_bytes(self.bytes()?);
                    let text = self.text(usize::try_from(len).unwrap_or(usize::MAX))?;
                    self.push(Value::Text(text))?;
                }
                op::GLOBAL => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push(global(module, name)?)?;
                }
                op::EMPTY_TUPLE => self.push(Value::Tuple(Vec::new()))?,
                op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                    let height = self.stack.len().checked_sub(usize::from(code - op::TUPLE1) + 1);
                    let items = self.stack.split_off(height.ok_or_else(underflow)?);
                    self.push(Value::Tuple(items))?;
                }
                op::TUPLE => {
                    let items = self.above_mark()?;
                    self.push(Value::Tuple(items))?;
                }
                op::EMPTY_DICT => self.push(Value::Dict(Vec::new()))?,
                op::SETITEM => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.dict()?.push((key, value));
                }
                op::SETITEMS => {
                    let items = self.above_mark()?;
                    let (pairs, []) = items.as_chunks() else {
                        return wrong("", "a key without a value", "pairs");
                    };
                    self.dict()?.extend(pairs.iter().map(|&[key, value]| (key, value)));
                }
                op::BINPUT => {
                    let [place] = self.bytes()?;
                    self.remember(place.into())?;
                }
                op::LONG_BINPUT => {
                    let place = u32::from_le_bytes(self.bytes()?);
                    self.remember(place)?;
                }
                op::BINGET => {
                    let [place] = self.bytes()?;
                    self.recall(place.into())?;
                }
                op::LONG_BINGET => {
                    let place = u32::from_le_bytes(self.bytes()?);
                    self.recall(place)?;
                }
                op::BINPERSID => self.storage()?,
                op::REDUCE => self.call()?,
                // The state that a dictionary of weights carries is the modules' versions: not needed.
                op::BUILD => {
                    self.pop()?;
                    self.dict()?;
                }
                other => {
                    let found = format_args!("opcode {other:#04x} at byte {}", self.at - 1);
                    return wrong("", found, "only those that torch.save writes");
                }
            }
        }
        match (self.stack.as_slice(), self.marks.as_slice(), self.pickle.len() - self.at) {
            ([top], [], 0) => Ok(*top),
            _ => wrong("", "something beside it", "one value"),
        }
    }

    /// A persistent id, which stands for a storage: `('storage', class, key, location, length)`.
    fn storage(&mut self) -> Result<()> {
        let id = self.pop_tuple()?;
        let items: Vec<&Value> = id.iter().map(|&place| &self.values[place]).collect();
        match items[..] {
            [
                Value::Text("storage"),
                &Value::StorageClass(kind),
                &Value::Text(key),
                Value::Text(_),
                &Value::Int(len),
            ] => {
                let len = u64::try_from(len).or_else(|_| wrong(key, len, "the length of a storage"))?;
                self.push(Value::Storage { kind, key, len })
            }
            _ => wrong("", "another persistent id", "a tensor's storage"),
        }
    }

    /// What one of the known functions would build.
    fn call(&mut self) -> Result<()> {
        let arguments = self.pop_tuple()?;
        let function = self.pop()?;
        let items: Vec<&Value> = arguments.iter().map(|&place| &self.values[place]).collect();
        let built = match (&self.values[function], &items[..]) {
            (Value::OrderedDict, []) => Value::Dict(Vec::new()),
            // (tensor, requires_grad, hooks)
            (Value::RebuildParameter, [Value::Tensor(_), _, _]) => {
                self.stack.push(arguments[0]);
                return Ok(());
            }
            // (storage, offset, shape, strides, requires_grad, hooks), and from PyTorch 2 on metadata
            (
                Value::RebuildTensor,
                [
                    Value::Storage { kind, key, len },
                    Value::Int(offset),
                    Value::Tuple(shape),
                    Value::Tuple(strides),
                    Value::Bool,
                    _,
                    metadata @ ..,
                ],
            ) => {
                // Metadata says that the values are to be negated or conjugated.
                if !matches!(metadata, [] | [Value::None]) {
                    return wrong(key, "a tensor with metadata", "a plain one");
                }
                Value::Tensor(Box::new(Saved {
                    kind,
                    key,
                    storage_len: *len,
                    offset: u64::try_from(*offset).or_else(|_| wrong(key, offset, "an offset"))?,
                    shape: self.sizes(shape)?,
                    strides: self.sizes(strides)?,
                }))
            }
            (function, _) => {
                return wrong("", format_args!("a call of {}", function.kind()), "a tensor's arguments");
            }
        };
        self.push(built)
    }

    fn sizes(&self, places: &[ValueId]) -> Result<Vec<u64>> {
        if places.len() > MAX_DIMENSIONS {
            return wrong("", format_args!("{} dimensions", places.len()), "a vector or a matrix");
        }
        let size = |&place: &ValueId| match self.values[place] {
            Value::Int(size) => u64::try_from(size).or_else(|_| wrong("", size, "a size")),
            ref other => wrong("", other.kind(), "a size"),
        };
        places.iter().map(size).collect()
    }

    fn push(&mut self, value: Value<'a>) -> Result<()> {
        if self.values.len() >= MAX_VALUES {
            return wrong("", format_args!("over {MAX_VALUES} values"), "the few of a dictionary of tensors");
        }
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<ValueId> {
        self.stack.pop().ok_or_else(underflow)
    }

    /// Takes a tuple off the stack; it may be used again, from the memo.
    fn pop_tuple(&mut self) -> Result<Vec<ValueId>> {
        let top = self.pop()?;
        match &self.values[top] {
            Value::Tuple(items) if items.len() <= 8 => Ok(items.clone()),
            other => wrong("", other.kind(), "a short tuple"),
        }
    }

    fn above_mark(&mut self) -> Result<Vec<ValueId>> {
        let height = self.marks.pop().filter(|&height| height <= self.stack.len());
        Ok(self.stack.split_off(height.ok_or_else(underflow)?))
    }

    /// The dictionary on top of the stack.
    fn dict(&mut self) -> Result<&mut Vec<(ValueId, ValueId)>> {
        let top = *self.stack.last().ok_or_else(underflow)?;
        match &mut self.values[top] {
            Value::Dict(entries) => Ok(entries),
            other => wrong("", other.kind(), "a dictionary"),
        }
    }

    fn remember(&mut self, name: u32) -> Result<()> {
        let top = *self.stack.last().ok_or_else(underflow)?;
        self.memo.insert(name, top);
        Ok(())
    }

    fn recall(&mut self, name: u32) -> Result<()> {
        let place = self.memo.get(&name).copied();
        self.stack.push(place.map_or_else(|| wrong("", format_args!("memo {name}"), "one set before"), Ok)?);
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(len);
        let taken = end.and_then(|end| self.pickle.get(self.at..end));
        self.at = self.at.saturating_add(len);
        taken.map_or_else(|| wrong("", "its end", "more instructions"), Ok)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    fn text(&mut self, len: usize) -> Result<&'a str> {
        std::str::from_utf8(self.take(len)?).or_else(|_| wrong("", "bytes that are no text", "UTF-8"))
    }

    /// Up to the next line break.
    fn line(&mut self) -> Result<&'a str> {
        let rest = self.pickle.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        let line = self.text(len)?;
        self.take(1)?;
        Ok(line)
    }

    /// A little-endian number of any length, of which 64 bits are enough.
    fn long(&mut self) -> Result<i64> {
        let [len] = self.bytes()?;
        let bytes = self.take(len.into())?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut extended = [if negative { 0xff } else { 0 }; 8];
        match extended.get_mut(..bytes.len()) {
            Some(low) => low.copy_from_slice(bytes),
            None => return wrong("", format_args!("a number of {len} bytes"), "at most 8"),
        }
        Ok(i64::from_le_bytes(extended))
    }
}

/// The only names that are known.
fn global<'a>(module: &'a str, name: &'a str) -> Result<Value<'a>> {
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Value::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Value::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Value::RebuildParameter,
        ("torch", class) if class.len() <= 32 && class.ends_with("Storage") => {
            Value::StorageClass(class.strip_suffix("Storage").unwrap_or(class))
        }
        _ => {
            let shown: String = format!("{module}.{name}").chars().take(80).collect();
            return wrong(
                "",
                format_args!("`{shown}`"),
                "tensors only: whatever else a pickle can call is refused",
            );
        }
    })
}

fn wrong<T>(item: &str, found: impl std::fmt::Display, expected: &str) -> Result<T> {
    Err(Problem::mismatch(item, found, expected))
}

fn underflow() -> Problem {
    Problem::mismatch("", "an instruction without its operands", "a complete pickle")
}

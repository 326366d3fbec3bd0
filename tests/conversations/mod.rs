//! Conversations in a real llama-server: replies, history, tools, JSON mode, by the ids of the authors' code.

mod engines;
mod learned;
mod server;
mod unlearned;

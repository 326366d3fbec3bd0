//! A proxy on loopback: it connects whoever asks to the server, which has the hub's name nowhere else.

use std::io::{BufRead, BufReader, Write, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use super::Server;

impl Server {
    /// Starts a proxy that knows this server by any name, and other ports of this machine by `localhost`.
    pub fn start_proxy(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let (own, state) = (self.port, Arc::clone(&self.state));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                *state.tunnels.lock().unwrap() += 1;
                thread::spawn(move || tunnel(&stream, own));
            }
        });
        address
    }

    /// How many connections came by a proxy.
    pub fn tunnels(&self) -> usize {
        *self.state.tunnels.lock().unwrap()
    }
}

fn tunnel(mut client: &TcpStream, own: u16) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let target = line.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    while !line.trim().is_empty() {
        line.clear();
        reader.read_line(&mut line).ok()?;
    }
    let port = match target.split_once(':')? {
        ("localhost", port) => port.parse().ok()?,
        _ => own,
    };
    let server = TcpStream::connect(("127.0.0.1", port)).ok()?;
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").ok()?;
    let (mut from, mut to) = (server.try_clone().ok()?, client.try_clone().ok()?);
    thread::spawn(move || {
        let _ = copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let _ = copy(&mut reader, &mut { &server });
    let _ = server.shutdown(Shutdown::Both);
    Some(())
}

//! A TCP connection that can be cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes connections on while it is whole. It stops when this is dropped.
pub struct Wire {
    port: u16,
    whole: watch::Sender<bool>,
    made: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl Wire {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (whole, is_whole) = watch::channel(true);
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let server = tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                tokio::spawn(join(near, port, is_whole.clone(), count.clone()));
            }
        });
        Self { port: own, whole, made, server }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Breaks what is connected, and whatever connects from now on.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub fn mend(&self) {
        self.whole.send_replace(true);
    }

    /// How many connections were passed on so far.
    pub fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn join(mut near: TcpStream, port: u16, mut whole: watch::Receiver<bool>, made: Arc<AtomicUsize>) {
    if !*whole.borrow_and_update() {
        return;
    }
    let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    made.fetch_add(1, Ordering::Relaxed);
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        _ = whole.wait_for(|whole| !whole) => {}
    }
}

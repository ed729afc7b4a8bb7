//! Names of addresses, looked up in threads of their own.

use core::net::IpAddr;
use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};

/// Looks up names and remembers them.
#[derive(Debug)]
pub(crate) struct Names {
    known: HashMap<IpAddr, Lookup>,
    questions: Sender<IpAddr>,
    answers: Receiver<(IpAddr, Option<String>)>,
}

/// What is known of an address's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Nothing yet.
    Asked,
    /// It has this name, or none.
    Answered(Option<String>),
}

impl Names {
    /// Starts the threads; they end when this is dropped and their last question is answered.
    pub(crate) fn new() -> Self {
        Self::with(|addr| dns_lookup::lookup_addr(&addr).ok())
    }

    /// Asks for the name of `addr` unless that has been done, and says what is known.
    pub(crate) fn lookup(&mut self, addr: IpAddr) -> &Lookup {
        self.known.entry(addr).or_insert_with(|| {
            // Without threads there is no answer, and the name stays unknown.
            let _ = self.questions.send(addr);
            Lookup::Asked
        })
    }

    /// Takes the answers that have come.
    pub(crate) fn receive(&mut self) {
        for (addr, name) in self.answers.try_iter() {
            // Resolvers give the address back where there is no name.
            let name = name.filter(|n| n.parse::<IpAddr>().is_err());
            self.known.insert(addr, Lookup::Answered(name));
        }
    }

    fn with(resolve: impl Fn(IpAddr) -> Option<String> + Copy + Send + 'static) -> Self {
        let (questions, queue) = mpsc::channel::<IpAddr>();
        let (reply, answers) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..THREADS {
            let (queue, reply) = (Arc::clone(&queue), reply.clone());
            std::thread::spawn(move || {
                loop {
                    let next = queue.lock().map(|queue| queue.recv());
                    let Ok(Ok(addr)) = next else {
                        return;
                    };
                    if reply.send((addr, resolve(addr))).is_err() {
                        return;
                    }
                }
            });
        }
        Self {
            known: HashMap::new(),
            questions,
            answers,
        }
    }
}

/// Lookups at once.
const THREADS: usize = 8;

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;
    use core::time::Duration;
    use std::time::Instant;

    use super::*;

    #[test]
    fn names_come_later_and_asking_never_waits() {
        let mut names = Names::with(|addr| {
            std::thread::sleep(Duration::from_millis(20));
            addr.is_loopback().then(|| "here.example".to_owned())
        });
        let (here, there) = (
            IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::from(Ipv4Addr::new(5, 0, 0, 1)),
        );
        assert_eq!(names.lookup(here), &Lookup::Asked);
        assert_eq!(names.lookup(there), &Lookup::Asked);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10)
            && (names.lookup(here) == &Lookup::Asked || names.lookup(there) == &Lookup::Asked)
        {
            std::thread::sleep(Duration::from_millis(1));
            names.receive();
        }
        assert_eq!(
            names.lookup(here),
            &Lookup::Answered(Some("here.example".into()))
        );
        assert_eq!(names.lookup(there), &Lookup::Answered(None));
    }
}

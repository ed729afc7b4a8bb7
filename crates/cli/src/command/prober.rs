//! What runs jobs: an engine in this process, or one elsewhere.

use core::net::IpAddr;

use plumb_probe::{Engine, Event, Job, JobId, Refused, Stats};
use plumb_wire::{Engine as _, Instant};

/// Something that runs jobs.
pub(crate) trait Prober {
    /// Takes a job.
    ///
    /// # Errors
    /// If it cannot be done, or not now.
    fn start(&mut self, job: Job, now: Instant) -> Result<JobId, Refused>;

    /// Ends jobs early: all that are under way. Their last news follow.
    fn stop_all(&mut self, jobs: &mut dyn Iterator<Item = JobId>, now: Instant);

    /// Takes note that there will be no more jobs, and says whether there will be no more news
    /// either, once those of all jobs have been taken.
    fn finish(&mut self) -> bool;

    /// The next thing that happened.
    fn poll_news(&mut self) -> Option<ProberNews>;

    /// Counters, as far as they are known.
    fn stats(&self) -> Stats;

    /// Jobs under way.
    fn active(&self) -> usize;

    /// Whether another job would be taken.
    fn has_room(&self) -> bool;

    /// Measurements that could send at once if the rate allowed it.
    fn backlog(&self) -> usize;
}

/// Something that happened to a job.
#[derive(Debug)]
pub(crate) enum ProberNews {
    /// What an engine reports.
    Event(Event),
    /// A job that was taken, and is given back without a record.
    Refused {
        /// The job.
        job: JobId,
        /// Its target.
        dst: IpAddr,
        /// Why; `None` if that is because it was stopped.
        why: Option<String>,
    },
}

impl Prober for Engine {
    fn start(&mut self, job: Job, now: Instant) -> Result<JobId, Refused> {
        Self::start(self, job, now)
    }

    fn stop_all(&mut self, jobs: &mut dyn Iterator<Item = JobId>, now: Instant) {
        let mut jobs: Vec<JobId> = jobs.collect();
        jobs.sort_unstable();
        for job in jobs {
            self.stop(job, now);
        }
    }

    fn finish(&mut self) -> bool {
        true
    }

    fn poll_news(&mut self) -> Option<ProberNews> {
        self.poll_event().map(ProberNews::Event)
    }

    fn stats(&self) -> Stats {
        Self::stats(self)
    }

    fn active(&self) -> usize {
        Self::active(self)
    }

    fn has_room(&self) -> bool {
        Self::has_room(self)
    }

    fn backlog(&self) -> usize {
        Self::backlog(self)
    }
}

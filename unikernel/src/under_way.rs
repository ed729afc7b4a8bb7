//! Jobs under way, by what the engine calls them and by what the host does.

use alloc::collections::VecDeque;

use plumb_probe::JobId;

/// Jobs with their tokens, in the order of the jobs' names. Memory bounds them to some thousands, of
/// 16 bytes each: moving those is nothing beside a job's packets, and two maps would be 6 kB of the
/// image.
#[derive(Debug, Default)]
pub(crate) struct UnderWay(VecDeque<(JobId, u64)>);

impl UnderWay {
    pub(crate) fn insert(&mut self, job: JobId, token: u64) {
        let at = self.0.partition_point(|(other, _)| *other < job);
        self.0.insert(at, (job, token));
    }

    pub(crate) fn remove(&mut self, job: JobId) -> Option<u64> {
        let at = self.find(job)?;
        self.0.remove(at).map(|(_, token)| token)
    }

    pub(crate) fn token(&self, job: JobId) -> Option<u64> {
        let at = self.find(job)?;
        self.0.get(at).map(|(_, token)| *token)
    }

    /// The job that the host calls so. Looks at all of them: it is only asked when one is stopped.
    pub(crate) fn job(&self, token: u64) -> Option<JobId> {
        let found = self.0.iter().find(|(_, other)| *other == token);
        found.map(|(job, _)| *job)
    }

    pub(crate) fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.0.iter().map(|(job, _)| *job)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, job: JobId) -> Option<usize> {
        self.0.binary_search_by_key(&job, |(job, _)| *job).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Identifiers are never used twice; tokens are whatever the host chooses.
        #[test]
        fn it_is_two_maps(
            steps in prop::collection::vec((any::<bool>(), 0_u64..40, any::<u64>()), 0..200),
        ) {
            let (mut under_way, mut model) = (UnderWay::default(), BTreeMap::new());
            for (begins, job, token) in steps {
                if begins && !model.contains_key(&job) {
                    model.insert(job, token);
                    under_way.insert(JobId(job), token);
                } else {
                    prop_assert_eq!(under_way.remove(JobId(job)), model.remove(&job));
                }
                prop_assert_eq!(under_way.token(JobId(job)), model.get(&job).copied());
                let named = model.iter().find(|(_, other)| **other == token);
                prop_assert_eq!(under_way.job(token), named.map(|(job, _)| JobId(*job)));
                prop_assert_eq!(under_way.is_empty(), model.is_empty());
                let jobs: std::vec::Vec<u64> = under_way.jobs().map(|job| job.0).collect();
                prop_assert!(jobs.iter().eq(model.keys()));
            }
        }
    }
}

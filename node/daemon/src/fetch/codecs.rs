//! One codec for each profile, made once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use strongroom_erasure::{Codec, MatrixId};
use strongroom_types::Profile;

/// Codecs by profile. There are few profiles in a cluster, and at most 496 in all.
#[derive(Default)]
pub struct Codecs {
    made: Mutex<BTreeMap<Profile, Arc<Codec>>>,
}

impl Codecs {
    /// The codec of `profile`.
    pub fn get(&self, profile: Profile) -> Arc<Codec> {
        let mut made = self.made.lock().expect("no code panics while it holds this lock");
        made.entry(profile).or_insert_with(|| Arc::new(make(profile))).clone()
    }
}

fn make(profile: Profile) -> Codec {
    let (data, parity) = (usize::from(profile.data_count()), usize::from(profile.parity_count()));
    Codec::new(data, parity, MatrixId::NormalisedCauchy).expect("a profile is within the codec's limits")
}

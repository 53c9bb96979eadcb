//! Frames between two nodes: what decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshd_fuzz::honest::{self, MESH};
use meshd_fuzz::seed;
use meshd_wire::{ChannelFrame, HaveEntry, PlacedRecord, RecordDigest};

fuzz_target!(init: seed::write(seeds()), |bytes: &[u8]| check(bytes));

fn check(bytes: &[u8]) {
    if let Ok(frame) = ChannelFrame::from_bytes(bytes) {
        assert_eq!(frame.to_bytes(), bytes);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let records: Vec<PlacedRecord> = honest::bytes_of(&MESH.chain[..2])
        .into_iter()
        .map(|value| PlacedRecord { place: "meta".into(), value })
        .collect();
    let entries = records
        .iter()
        .map(|record| HaveEntry { place: record.place.clone(), digest: RecordDigest::of(&record.value) })
        .collect();
    let frames = [
        ChannelFrame::Have { entries },
        ChannelFrame::Want { places: vec!["meta".into(), "p/a".into()] },
        ChannelFrame::Records { records },
    ];
    frames.iter().map(ChannelFrame::to_bytes).collect()
}

//! The files of a recording after a death or a broken disk: whatever stands there, recovery keeps whole pieces only,
//! and recovering twice changes nothing more. The first byte chooses the kind of file.

use offhook_recorder_core::recover::{SegmentRead, cut_consent, cut_run};
use offhook_recorder_core::{consent, g711_file, ogg, opus_file, timeline};

pub fn run(data: &[u8]) {
    let Some((kind, file)) = data.split_first() else { return };
    match kind % 4 {
        0 => sidecar(file),
        1 => opus(file),
        2 => g711(file),
        _ => consent_log(file),
    }
}

fn sidecar(file: &[u8]) {
    let (records, kept) = timeline::confirmed(file);
    assert_eq!(timeline::confirmed(&file[..kept]), (records, kept));
    let Some(segment) = SegmentRead::read(file) else { return };
    assert_eq!(segment.sidecar_bytes, kept);
    segment.runs.iter().for_each(|run| drop(cut_run(run, file)));
}

fn opus(file: &[u8]) {
    let whole: usize = ogg::pages(file).map(|page| page.bytes()).sum();
    assert!(whole <= file.len());
    for limit in [0, 1, 7, u64::MAX] {
        let Some(kept) = opus_file::salvage(file, limit) else { continue };
        assert!(kept.packets <= limit);
        let mut cut = file[..kept.keep_bytes].to_vec();
        cut.extend_from_slice(&kept.ending);
        let again = opus_file::salvage(&cut, limit).unwrap();
        assert_eq!((again.keep_bytes, again.packets, again.ending.len()), (cut.len(), kept.packets, 0));
    }
}

fn g711(file: &[u8]) {
    let Some((kept, packets)) = g711_file::salvage(file, u64::MAX) else { return };
    assert_eq!(g711_file::salvage(&file[..kept], u64::MAX), Some((kept, packets)));
    let mut again = g711_file::MAGIC.to_vec();
    g711_file::frames(file).for_each(|(frame, _)| frame.encode(&mut again));
    assert_eq!(again, file[..kept]);
}

fn consent_log(file: &[u8]) {
    let log = consent::read(file);
    assert_eq!(consent::read(&file[..log.bytes]), log);
    let (kept, chain) = cut_consent(file, 1);
    assert!(kept <= log.bytes);
    assert_eq!(consent::read(&file[..kept]).chain, chain);
}

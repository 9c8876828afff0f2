//! Headers: nothing of the bytes is lost, what is written is read again, and edits keep it sound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qpsmtpd::mail::Header;

fn written(header: &Header) -> Vec<u8> {
    let mut out = Vec::new();
    header.write_to(&mut out).expect("memory");
    assert_eq!(out.len(), header.bytes());
    out
}

/// Reading what was written gives the same fields.
fn is_sound(header: &Header) {
    let out = written(header);
    let (again, used) = Header::parse(&out);
    assert_eq!(used, out.len());
    let fields = |header: &Header| -> Vec<Vec<u8>> { header.iter().map(|field| field.raw().to_vec()).collect() };
    assert_eq!(fields(&again), fields(header));
    assert_eq!(fields(header).concat(), out);
}

fuzz_target!(|bytes: &[u8]| {
    let (edits, block) = qpsmtpd_fuzz::list(bytes);
    let (mut header, used) = Header::parse(block);
    assert!(used <= block.len());
    is_sound(&header);
    if !block.starts_with(b"From ") {
        let mut kept = block[..used].to_vec();
        if used > 0 && !kept.ends_with(b"\n") {
            kept.push(b'\n');
        }
        assert_eq!(written(&header), kept);
    }
    for field in header.iter() {
        let _ = (field.text(), field.value());
        assert!(header.count(field.name()) > 0 && header.get(field.name()).is_some());
    }
    // values are parts of the input too
    let value = &block[..block.len().min(200)];
    let names: Vec<String> = header.iter().map(|field| field.name().to_owned()).collect();
    for (at, edit) in edits.iter().enumerate() {
        let name = names.get(usize::from(edit >> 3)).map_or("X-New", String::as_str);
        let before = header.len();
        match edit % 8 {
            0 => assert_eq!(header.add_top(name, value), header.len() == before + 1),
            1 => assert_eq!(header.add_bottom(name, value), header.len() == before + 1),
            2 => drop(header.replace(name, value)),
            3 => assert_eq!(header.remove(name), before - header.len()),
            4 => drop(header.remove_nth(name, at)),
            5 => drop(header.rename(name, "X-Renamed")),
            6 => assert_eq!(header.retain(|field| field.value().len() % 2 == 0), before - header.len()),
            _ => drop(header.add_top(&String::from_utf8_lossy(value), "x")),
        }
        is_sound(&header);
    }
});

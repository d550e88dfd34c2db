//! The doors at which bytes from outside come in hold, whatever comes: a short run of the fuzz
//! targets, the same every time.

use std::path::Path;

use stellwerk_tests::fuzzing::{DOORS, Dice, mutate};

/// Mutations of each seed.
const ROUNDS: usize = 400;

fn seeds(door: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(door);
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("no seeds for {door}: {error}"))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    // The order of a folder is nobody's promise; the run must be the same everywhere.
    names.sort();
    names.iter().map(|name| std::fs::read(name).expect("a seed")).collect()
}

#[test]
fn every_door_takes_any_bytes() {
    for (name, door) in DOORS {
        let mut dice = Dice::new(0x57e1_1ee1);
        for seed in seeds(name) {
            door(&seed);
            for _ in 0..ROUNDS {
                let bytes = mutate(&seed, &mut dice);
                let held = std::panic::catch_unwind(|| door(&bytes));
                assert!(held.is_ok(), "{name} fell over {:?}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}

#[test]
fn every_door_takes_nothing_and_noise() {
    for (name, door) in DOORS {
        let mut dice = Dice::new(7);
        door(b"");
        for length in [1, 2, 3, 16, 255, 4096] {
            let noise: Vec<u8> = (0..length).map(|_| dice.below(256) as u8).collect();
            let held = std::panic::catch_unwind(|| door(&noise));
            assert!(held.is_ok(), "{name} fell over noise of {length} bytes");
        }
    }
}

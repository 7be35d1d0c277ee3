//! Tests of the table.

use super::*;
use crate::protocol::options::LockOptions;
use crate::protocol::target::Target;

fn target(directory: &Path) -> Target {
    LockOptions::in_directory(directory).resolve().expect("a path")
}

fn acquire(target: &Target) -> Held<<Os as System>::File> {
    protocol::acquire(Os::get(), target, 0).expect("free")
}

#[test]
fn lock_ids_convert_to_numbers_and_back() {
    for id in [1, 2, 1 << 40] {
        assert_eq!(LockId::from_number(LockId(id).to_number()), LockId(id));
    }
    for number in [f64::NAN, -1.0, 0.5] {
        assert!(release(LockId::from_number(number)).is_none());
    }
}

#[test]
fn closing_an_owner_releases_only_its_locks() {
    let (mine, theirs) = (tempfile::tempdir().expect("a"), tempfile::tempdir().expect("b"));
    let (mine, theirs) = (target(mine.path()), target(theirs.path()));
    let (owner, other) = (open_owner(), open_owner());
    let gone = add(owner, acquire(&mine), true).expect("added");
    let stays = add(other, acquire(&theirs), true).expect("added");
    assert_eq!(find(other, &mine.path), None, "another owner's lock is not found");
    close_owner(owner, || ());
    assert!(!is_held(gone) && !mine.path.exists());
    assert!(is_held(stays) && theirs.path.exists());
    assert!(release(gone).is_none(), "a second release finds nothing");
    release_all(other);
    assert!(!theirs.path.exists());
}

#[test]
fn an_undelivered_take_over_is_rolled_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let (target, owner) = (target(directory.path()), open_owner());
    for end in [
        (|_, id| drop(release(id))) as fn(Owner, LockId),
        |owner, _| drop(release_all(owner)),
        |owner, _| close_owner(owner, || ()),
    ] {
        std::fs::write(&target.path, "no record").expect("written");
        end(owner, add(owner, acquire(&target), true).expect("added"));
        assert!(target.path.exists(), "the error has no recipient");
    }
    assert_eq!(add(owner, acquire(&target), true), None, "the owner has ended");
    assert!(target.path.exists());
    let id = add(open_owner(), acquire(&target), true).expect("added");
    set_delivered(id, true);
    release(id).expect("held").expect("released");
    assert!(!target.path.exists());
}

#[test]
fn a_lock_acquired_for_a_closed_owner_is_released() {
    let directory = tempfile::tempdir().expect("a directory");
    let (target, owner) = (target(directory.path()), open_owner());
    close_owner(owner, || ());
    assert!(!table().open.contains(&owner), "its owner was removed");
    assert_eq!(add(owner, acquire(&target), true), None);
    assert!(!target.path.exists());
}

#[test]
fn an_undelivered_lock_is_claimed_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let (target, owner) = (target(directory.path()), open_owner());
    let first = add(owner, acquire(&target), true).expect("added");
    assert!(claim(open_owner(), &target.path, Some(first)).is_none(), "not for another owner");
    let (id, ..) = claim(owner, &target.path, None).expect("it was not delivered");
    assert!(!set_delivered(first, true) && release(first).is_none(), "its own call does not find it");
    assert!(is_held(id) && !is_deadlock(owner, &target.path));
    assert!(set_delivered(id, true) && is_deadlock(owner, &target.path));
    assert!(claim(owner, &target.path, Some(id)).is_none(), "the program has it");
    release_all(owner);
    assert!(!target.path.exists());
}

#[test]
fn the_lock_of_a_synchronous_call_is_not_claimed() {
    let directory = tempfile::tempdir().expect("a directory");
    let (target, owner) = (target(directory.path()), open_owner());
    let id = add(owner, acquire(&target), false).expect("added");
    assert!(claim(owner, &target.path, Some(id)).is_none(), "its own call waits for it");
    assert!(release(id).is_some());
}

#[test]
fn an_owner_is_open_until_its_last_environment_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let (target, owner) = (target(directory.path()), open_owner());
    assert_eq!(share_owner(owner), owner);
    assert!(unshare_owner(owner), "one remains");
    assert!(add(owner, acquire(&target), true).is_some_and(|id| release(id).is_some()));
    assert!(!unshare_owner(owner), "it was the last one");
    assert!(add(owner, acquire(&target), true).is_none());
    assert_eq!(share_owner(share_owner(owner)), owner);
    close_owner(owner, || ());
    assert!(add(owner, acquire(&target), true).is_none(), "its thread has ended");
}

#[test]
fn exit_waits_briefly_for_pending_attempts() {
    let owner = open_owner();
    let attempt = PendingWork::begin(owner);
    let started = Instant::now();
    await_pending(owner);
    assert!(started.elapsed() >= EXIT_GRACE);
    let waiting = thread::spawn(move || await_pending(owner));
    drop(attempt);
    waiting.join().expect("woken");
    assert!(!table().pending.contains(&owner));
}

#[test]
fn the_end_of_an_owner_awaits_its_pending_work() {
    let waits = |_| {
        let owner = open_owner();
        let rollback = PendingWork::begin(owner);
        // The end of a wait begins its rollback.
        let mut ended = None;
        let cancel = || {
            ended = Some(thread::spawn(move || {
                thread::sleep(Duration::from_millis(5));
                drop(rollback);
            }));
        };
        close_owner(owner, cancel);
        let is_over = !table().pending.contains(&owner);
        ended.expect("cancelled").join().expect("no panic");
        is_over
    };
    // On a busy machine it may take longer than an exit waits, but not each time.
    assert!((0..10).any(waits));
}

#[test]
#[cfg(unix)]
fn find_matches_another_name_of_the_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let (real, link) = (directory.path().join("real"), directory.path().join("link"));
    std::fs::create_dir(&real).expect("made");
    std::os::unix::fs::symlink(&real, &link).expect("linked");
    let owner = open_owner();
    let id = add(owner, acquire(&target(&real)), true).expect("added");
    assert_eq!(find(owner, &target(&link).path), None, "the program does not have it yet");
    set_delivered(id, true);
    assert_eq!(find(owner, &target(&link).path), Some(id));
    release_all(owner);
}

#[test]
#[cfg(unix)]
fn a_lock_is_claimed_under_another_name_of_its_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let (real, link) = (directory.path().join("real"), directory.path().join("link"));
    std::fs::create_dir(&real).expect("made");
    std::os::unix::fs::symlink(&real, &link).expect("linked");
    let (real, link, owner) = (target(&real), target(&link), open_owner());
    let first = add(owner, acquire(&real), true).expect("added");
    assert!(claim(owner, &link.path, None).is_none(), "no disk is read");
    let found = find_claimable(owner, &link.path);
    assert_eq!(found, Some(first));
    let (id, ..) = claim(owner, &link.path, found).expect("it was not delivered");
    assert!(set_delivered(id, true) && is_held(id));
    assert_eq!(location(id).expect("held").0, link.path);
    assert_eq!(find_claimable(owner, &link.path), None, "the program has it");
    release(id).expect("held").expect("released");
    assert!(!real.path.exists());
}

#[test]
fn locks_of_one_path_are_removed_in_any_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = LockOptions { shared: true, legacy: false, ..LockOptions::in_directory(directory.path()) };
    let (target, owner) = (options.resolve().expect("a path"), open_owner());
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [1, 2, 0]] {
        let ids = [(); 3].map(|()| add(owner, acquire(&target), true).expect("added"));
        for id in ids {
            set_delivered(id, true);
        }
        let mut left = ids.to_vec();
        let file = location(ids[0]).expect("held").1;
        for index in order {
            assert!(Os::get().holds(file));
            assert_eq!(find(owner, &target.path), left.last().copied());
            release(ids[index]).expect("held").expect("released");
            left.retain(|id| *id != ids[index]);
        }
        assert_eq!(find(owner, &target.path), None);
        assert!(!Os::get().holds(file));
        assert!(!table().by_path.contains_key(&hash_of(&target.path)));
    }
}

//! The faults that the checker has to find. Each edit replaces text that occurs once in `src/protocol/`.

/// A fault.
#[derive(Debug)]
pub struct Mutation {
    /// A name that is a Rust identifier.
    pub name: &'static str,
    /// The fault, in words.
    #[allow(dead_code, reason = "the build script does not read it")]
    pub about: &'static str,
    /// Pairs of a text and its replacement.
    pub edits: &'static [(&'static str, &'static str)],
}

const INODE_CHECK: (&str, &str) = (
    "    let Some(stat) = stat_if_current(system, target, id)? else {
        return Err(Retry::Vanished.into());
    };
    // 6.",
    "    let stat = system.stat(&file).map_err(target.system(\"fstat\"))?;
    // 6.",
);

const LAST_CHECK: (&str, &str) = (
    "    let current = stat_if_current(system, target, held.id);",
    "    let current: Result<Option<()>, Error> = Ok(Some(()));",
);

const PAUSE: (&str, &str) = ("    system.pause(LEGACY_UNLINK_WINDOW);\n    let current", "    let current");

/// All of them.
pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "no_inode_check_after_locking",
        about: "an acquire does not check that the path still names the file that it has locked",
        edits: &[
            INODE_CHECK,
            LAST_CHECK,
            ("FsKind::Local => stat.links > 0,", "FsKind::Local => true,"),
        ],
    },
    Mutation {
        name: "created_file_not_checked",
        about: "a created file is not checked after its kernel lock is acquired",
        edits: &[("FsKind::Local => stat.links > 0,", "FsKind::Local => true,")],
    },
    Mutation {
        name: "created_file_not_checked_on_a_network",
        about: "on a network filesystem a created file is not checked after its kernel lock is acquired",
        edits: &[("FsKind::Shared => stat_if_current(system, target, stat.id).map_err(discard)?.is_some(),", "FsKind::Shared => true,")],
    },
    Mutation {
        name: "stale_file_unlinked_without_its_kernel_lock",
        about: "a stale file is classified and removed without its kernel lock, and created again",
        edits: &[(
            "    // 4. The kernel lock.
    let kernel_locks = match",
            "    let fs = system.fs_kind(&file);
    let stat = system.stat(&file).map_err(target.system(\"fstat\"))?;
    let classified = classify(system, target, budget, &file, &stat, (fs, true))?;
    if matches!(classified.verdict, Verdict::Stale(_)) {
        system.unlink(&target.path, stat.id).map_err(|failed| target.failed(failed))?;
        return Err(Retry::Vanished.into());
    }
    let kernel_locks = match",
        )],
    },
    Mutation {
        name: "release_closes_before_it_unlinks",
        about: "a release ends the kernel lock before it unlinks the file",
        edits: &[
            ("    let failed = match system.unlink(&path, id) {", "    drop(file);\n    let failed = match system.unlink(&path, id) {"),
            ("            if system.stat(&file).is_ok_and(|stat| stat.links == 1) {\n                overwrite(system, &file, &RELEASED);\n            }\n            // Also for children that have inherited it.\n            system.unlock(&file);\n", ""),
            ("    if stays(&failed) && overwrite(system, &file, &RELEASED) {\n        system.unlock(&file);\n        return Ok(());\n    }\n    let _ = cut(system, &file);\n    system.unlock(&file);\n", ""),
        ],
    },
    Mutation {
        name: "record_written_before_the_kernel_lock",
        about: "the record is written before the kernel lock is acquired",
        edits: &[(
            "    // 4. The kernel lock.
    let kernel_locks = match",
            "    let early = Record::of(system.identity(), thread, system.wall_clock(), system.fs_kind(&file));
    system.write(&file, &early.encode()).map_err(target.system(\"write\"))?;
    let kernel_locks = match",
        )],
    },
    Mutation {
        name: "busy_is_contention",
        about: "a busy kernel lock is contention, whatever its mode and the record",
        edits: &[(
            "    if system.try_lock(file, LockMode::Shared).map_err(target.system(\"flock\"))? != TryLock::WouldBlock {
        return Ok(Retry::HeldByInspector.into());
    }",
            "    if stat.links < u64::MAX {
        return Ok(Refusal { holder: None, reason: None }.into());
    }",
        )],
    },
    Mutation {
        name: "busy_is_classified_by_the_record_alone",
        about: "a busy kernel lock is not tried in shared mode, so a live pid in the record is enough",
        edits: &[(
            "    if system.try_lock(file, LockMode::Shared).map_err(target.system(\"flock\"))? != TryLock::WouldBlock {",
            "    if stat.links == u64::MAX {",
        )],
    },
    Mutation {
        name: "pending_record_is_contention",
        about: "a busy kernel lock with a record that names no live process is refused without a retry",
        edits: &[(
            "    Ok(Retry::RecordPending.into())\n",
            "    Ok(Refusal { holder: None, reason: None }.into())\n",
        )],
    },
    Mutation {
        name: "ended_holder_taken_over",
        about: "the file of a holder that has ended is taken over although its child has the kernel lock",
        edits: &[(
            "            let stat = system.stat(&file).map_err(target.system(\"fstat\"))?;
            return Err(classify_busy(system, target, budget, &file, &stat)?);
        }
        TryLock::Unsupported => false,
    };
    // 5.",
            "            let stat = system.stat(&file).map_err(target.system(\"fstat\"))?;
            let content = read(system, target, &file, &stat)?;
            let record = if let Content::Record(record) = content { Some(record) } else { None };
            let record = record.filter(|record| !super::holder::is_foreign(system, record));
            if !record.is_some_and(|record| system.process(record.pid) == crate::platform::ProcessState::Dead) {
                return Err(classify_busy(system, target, budget, &file, &stat)?);
            }
            true
        }
        TryLock::Unsupported => false,
    };
    // 5.",
        )],
    },
    Mutation {
        name: "empty_file_taken_over_at_once",
        about: "an empty file is taken over without a creation grace period",
        edits: &[(
            "        if stat.size != 0 || !is_young(",
            "        if stat.size != u64::MAX || !is_young(",
        )],
    },
    Mutation {
        name: "file_being_created_locked_before_the_check",
        about: "an acquire tries the kernel lock of a file in its creation grace period",
        edits: &[(
            "        if budget.in_creation_grace(system, &stat) {
            return Err(Retry::BeingCreated.into());
        }
        lock_existing",
            "        lock_existing",
        )],
    },
    Mutation {
        name: "zombie_counts_as_alive",
        about: "a holder that is a zombie counts as running",
        edits: &[(
            "    let (state, identity) = (system.process(record.pid), system.identity());",
            "    let (state, identity) = (system.process(record.pid), system.identity());
    let state =
        if state == ProcessState::Zombie { ProcessState::Alive { start: None } } else { state };",
        )],
    },
    Mutation {
        name: "legacy_records_ignored",
        about: "the kernel lock alone decides, so the records of legacy processes are ignored",
        edits: &[(
            "    let record = if let Content::Record(record) = content { Some(record) } else { None };
",
            "    let record = if let Content::Record(record) = content { Some(record) } else { None };
    let record = record.filter(|record| record.boot_id.is_some());
",
        )],
    },
    Mutation {
        name: "record_ignored",
        about: "a process that gets the kernel lock takes over, whatever the record says",
        edits: &[(
            "        Verdict::Held(reason) => {
            return Err(Refusal { holder: previous_holder, reason: Some(reason) }.into());
        }
        Verdict::Free",
            "        Verdict::Held(reason) => Some(reason),
        Verdict::Free",
        )],
    },
    Mutation {
        name: "created_file_with_a_record_not_classified",
        about: "a creator that was stopped for the creation grace period overwrites the record of another process",
        edits: &[("    if stat.size > 0 {\n", "    if stat.size == u64::MAX {\n")],
    },
    Mutation {
        name: "busy_file_being_created_entered",
        about: "a creator ignores that another process has the kernel lock of its file",
        edits: &[("    if lock == TryLock::WouldBlock {\n", "    if lock == TryLock::WouldBlock && stat.is_err() {\n")],
    },
    Mutation {
        name: "no_recheck_after_a_take_over",
        about: "a take-over neither waits for a legacy process that is about to unlink the path, nor checks again",
        edits: &[PAUSE, LAST_CHECK],
    },
    Mutation {
        name: "no_pause_after_a_take_over",
        about: "the recheck after a take-over does not wait 5 ms",
        edits: &[PAUSE],
    },
    Mutation {
        name: "release_does_not_check_the_path",
        about: "a release unlinks any file at the path",
        edits: &[(
            "    let failed = match system.unlink(&path, id) {",
            "    let id = system.stat_path(&path).ok().flatten().map_or(id, |named| named.id);
    let failed = match system.unlink(&path, id) {",
        )],
    },
    Mutation {
        name: "inspector_takes_the_exclusive_lock",
        about: "an inspector acquires the kernel lock in exclusive mode",
        edits: &[(
            "match system.try_lock(file, LockMode::Shared).map_err(target.system(\"flock\"))? {",
            "match system.try_lock(file, LockMode::Exclusive).map_err(target.system(\"flock\"))? {",
        )],
    },
    Mutation {
        name: "repeated_refusal_believes_the_record",
        about: "a repeated refusal depends on the record alone",
        edits: &[(
            "    let classified = classify_busy(system, target, &mut budget, &file, &stat);",
            "    let exists = |record: &super::record::Record| system.process_exists(record.pid);
    let classified = super::existing::classify_owner(system, target, &mut budget, &file, &stat, &exists);",
        )],
    },
    Mutation {
        name: "repeated_refusal_takes_the_exclusive_lock",
        about: "a process that was refused tries the kernel lock in exclusive mode",
        edits: &[(
            "    let classified = classify_busy(system, target, &mut budget, &file, &stat);",
            "    let _ = system.try_lock(&file, crate::platform::LockMode::Exclusive);
    let classified = classify_busy(system, target, &mut budget, &file, &stat);",
        )],
    },
    Mutation {
        name: "file_being_created_locked_by_a_repeated_refusal",
        about: "a process that was refused tries the kernel lock of an empty file",
        edits: &[("    if stat.size == 0 {\n        return None;", "    if stat.links > 9 {\n        return None;")],
    },
    Mutation {
        name: "inspector_does_not_recheck",
        about: "an inspector reports a file that the path does not name any more",
        edits: &[(
            "    let Some(current) = stat_if_current(system, target, stat.id)? else {
        return Err(Retry::Vanished.into());
    };
    let Classified",
            "    let current = system.stat(file).map_err(target.system(\"fstat\"))?;
    let Classified",
        )],
    },
    Mutation {
        name: "inspector_believes_a_later_record",
        about: "an inspector classifies a record that was written after it released the kernel lock",
        edits: &[("    if bytes != first.bytes {", "    if false {")],
    },
    Mutation {
        name: "breaker_takes_no_kernel_lock",
        about: "a stale file is broken without its kernel lock",
        edits: &[(
            "        TryLock::Acquired => true,
        TryLock::WouldBlock => return Err(classify_busy(system, target, budget, &file, &stat)?),
        TryLock::Unsupported => false,
    };
    let Some(current)",
            "        TryLock::Acquired | TryLock::WouldBlock => true,
        TryLock::Unsupported => false,
    };
    let Some(current)",
        )],
    },
    Mutation {
        name: "breaker_does_not_recheck",
        about: "a breaker does not check that the path still names the file that it has locked",
        edits: &[(
            "    let Some(current) = stat_if_current(system, target, stat.id)? else {
        return Err(Retry::Vanished.into());
    };
    let fs = system.fs_kind(&file);
    let Classified",
            "    let current = system.stat(&file).map_err(target.system(\"fstat\"))?;
    let stat = system.stat_path(&target.path).map_err(target.system(\"lstat\"))?.unwrap_or(stat);
    let fs = system.fs_kind(&file);
    let Classified",
        )],
    },
    Mutation {
        name: "breaker_does_not_classify",
        about: "a breaker removes every file that it can lock",
        edits: &[(
            "        Verdict::Held(reason) => {
            let holder = record.map(|record| record.holder(current.modified));
            return Err(Refusal { holder, reason: Some(reason) }.into());
        }
",
            "        Verdict::Held(_) => {}
",
        )],
    },
    Mutation {
        name: "replaced_program_taken_for_alive",
        about: "a process takes a record of its own, from before execve, for that of another process",
        edits: &[(
            "    let is_released = !system.holds(file) && ",
            "    let is_released = system.holds(file) && ",
        )],
    },
    Mutation {
        name: "lockless_holder_not_rechecked",
        about: "without kernel locks, a record is called stale although its holder has released",
        edits: &[(
            "    if !kernel_locks
        && matches!(verdict, Verdict::Stale(_))
        && stat_if_current(system, target, stat.id)?.is_none()
    {
        return Err(Retry::Vanished.into());
    }
",
            "",
        )],
    },
    Mutation {
        name: "lockless_take_over",
        about: "without kernel locks, a stale file is taken over",
        edits: &[
            ("        Verdict::Stale(reason) if kernel_locks => Some(reason),
        Verdict::Stale(reason) => {
            return Err(Error::Stale { path: target.path.clone(), holder: previous_holder, reason }.into());
        }", "        Verdict::Stale(reason) => Some(reason),"),
        ],
    },
    Mutation {
        name: "released_lock_taken_over",
        about: "a lock that was released in place counts as stale",
        edits: &[("        Verdict::Free => None,\n", "        Verdict::Free => Some(\"released\".to_owned()),\n")],
    },
    Mutation {
        name: "release_truncates_the_record",
        about: "a release that cannot remove the file truncates the record",
        edits: &[("if stays(&failed) && overwrite(system, &file, &RELEASED) {", "if stays(&failed) && cut(system, &file).is_ok() {")],
    },
    Mutation {
        name: "release_in_place_is_an_error",
        about: "a release fails if the system does not remove the file",
        edits: &[("    if stays(&failed) && overwrite(system, &file, &RELEASED) {\n        system.unlock", "    if stays(&failed) && overwrite(system, &file, &RELEASED) && id.device == u64::MAX {\n        system.unlock")],
    },
    Mutation {
        name: "file_with_several_links_written",
        about: "a stale file with another name is written",
        edits: &[("    if stat.links > 1 {\n        let held = recreate", "    if stat.links > 9 {\n        let held = recreate")],
    },
    Mutation {
        name: "no_pause_after_the_file_was_recreated",
        about: "the recheck does not wait 5 ms if the stale file had another name",
        edits: &[("    if target.legacy { recheck_take_over(system, target, held) } else { Ok(held) }\n}\n\n/// Step 7. Other", "    if false { recheck_take_over(system, target, held) } else { Ok(held) }\n}\n\n/// Step 7. Other")],
    },
    Mutation {
        name: "copy_of_a_record_believed",
        about: "a record is believed even if it names another file",
        edits: &[(
            "    let record = if let Content::Record(record) = content { Some(record) } else { None };
",
            "    let record = if let Content::Record(record) = content { Some(record) } else { None };
    let record = record.map(|record| Record { file: None, ..record });
",
        )],
    },
    Mutation {
        name: "longer_file_not_truncated",
        about: "a longer file is not truncated, and legacy processes read the bytes after the record",
        edits: &[("    if stat.size > RECORD_LEN as u64 {\n", "    if stat.size == u64::MAX {\n")],
    },
    Mutation {
        name: "invisible_owner_believed_at_once",
        about: "a record whose process is not visible is believed without a retry",
        edits: &[("Retry::OwnerNotVisible => (&mut self.owner_not_visible, 3, 1),", "Retry::OwnerNotVisible => (&mut self.owner_not_visible, 0, 1),")],
    },
    Mutation {
        name: "file_being_created_locked_by_a_breaker",
        about: "a breaker tries the kernel lock of a file in its creation grace period",
        edits: &[(
            "    if budget.in_creation_grace(system, &stat) {
        return Err(Retry::BeingCreated.into());
    }
    let kernel_locks",
            "    let kernel_locks",
        )],
    },
    Mutation {
        name: "file_being_created_locked_by_an_inspector",
        about: "an inspector tries the kernel lock of a file in its creation grace period",
        edits: &[(
            "    if budget.in_creation_grace(system, stat) {\n        let owner",
            "    if stat.links > 9 && budget.in_creation_grace(system, stat) {\n        let owner",
        )],
    },
    Mutation {
        name: "reader_does_not_check_the_path_again",
        about: "a reader does not check the path after it has the kernel lock of the readers",
        edits: &[("    match check_path(system, target, budget) {\n", "    let checked: Attempt<Option<TakenOver>> = Ok(None);\n    match checked {\n")],
    },
    Mutation {
        name: "readers_file_not_checked_after_locking",
        about: "a reader does not check that the file whose kernel lock it has is still that of the readers",
        edits: &[("    if stat_if_current(system, &readers, stat.id)?.is_none() {", "    if false {")],
    },
    Mutation {
        name: "owner_does_not_await_readers",
        about: "an owner does not wait for the readers that came before it had the path",
        edits: &[("    if held.has_readers\n", "    if false && held.has_readers\n")],
    },
    Mutation {
        name: "owner_checks_in_shared_mode",
        about: "an owner tries the kernel lock of the readers in shared mode",
        edits: &[(
            "    let locked = match system.try_lock(&file, LockMode::Exclusive) {",
            "    let locked = match system.try_lock(&file, LockMode::Shared) {",
        )],
    },
    Mutation {
        name: "owner_does_not_check_the_readers_file",
        about: "an owner removes the file of the readers without a check that it is the one that it has locked",
        edits: &[(
            "    if stat_if_current(system, &readers, id)?.is_none() {",
            "    let id = system.stat_path(&readers.path).map_err(readers.system(\"lstat\"))?.map_or(id, |stat| stat.id);\n    if false {",
        )],
    },
    Mutation {
        name: "record_awaited_without_bound",
        about: "a process that finds a busy kernel lock without a record retries without end",
        edits: &[("Retry::RecordPending => (&mut self.record_pending, 20, 1),", "Retry::RecordPending => (&mut self.record_pending, u32::MAX, 1),")],
    },
    Mutation {
        name: "missing_file_retried_without_bound",
        about: "a breaker that finds no file retries without end",
        edits: &[
            ("Err(AttemptError::Retry(Retry::Missing)) => return Ok(false),", ""),
            ("Retry::Missing | Retry::Vanished => (&mut self.vanished, 200, 0),", "Retry::Missing | Retry::Vanished => (&mut self.vanished, u32::MAX, 0),"),
        ],
    },
    Mutation {
        name: "any_reader_removes_the_file",
        about: "a reader removes the file of the readers although others have its kernel lock",
        edits: &[(
            "    if matches!(system.try_lock(file, LockMode::Exclusive), Ok(TryLock::Acquired)) {",
            "    if true {",
        )],
    },
    Mutation {
        name: "readers_are_contention",
        about: "an owner is refused by the kernel lock of a reader without a retry",
        edits: &[("Retry::HeldByReaders => (&mut self.held_by_readers, 20, 1),", "Retry::HeldByReaders => (&mut self.held_by_readers, 0, 1),")],
    },
    Mutation {
        name: "checked_readers_are_contention",
        about: "a reader is refused by a process that removes the file of the readers without a retry",
        edits: &[("Retry::ReadersChecked => (&mut self.readers_checked, 100, 1),", "Retry::ReadersChecked => (&mut self.readers_checked, 0, 1),")],
    },
    Mutation {
        name: "reader_does_not_await_the_record",
        about: "a reader is refused by a file that is being created, whose owner it cannot name",
        edits: &[("        Err(AttemptError::Refused(Refusal { holder: None, .. })) => return Err(Retry::BeingCreated.into()),\n", "")],
    },
    Mutation {
        name: "reader_does_not_report",
        about: "a reader does not report that the previous owner was killed",
        edits: &[("        LockState::Stale => Ok(Some(TakenOver { holder: status.holder, reason: status.reason })),", "        LockState::Stale => Ok(None),")],
    },
    Mutation {
        name: "inspector_ignores_readers",
        about: "an inspector does not check for readers",
        edits: &[("        .repeat(system, target, |budget| check_readers(system, target, budget, Access::Read));", "        .repeat(system, target, |_| Ok(()));")],
    },
    Mutation {
        name: "breaker_ignores_readers",
        about: "a breaker does not check for readers",
        edits: &[("        check_readers(system, target, budget, Access::ReadWrite)?;\n", "")],
    },
];

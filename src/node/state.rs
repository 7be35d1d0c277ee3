//! The state of one Node.js environment: the main thread or one worker.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use napi::bindgen_prelude::{Function, Object, Unknown};
use napi::{Env, Error, Result};
use napi_derive::napi;
use oneshot::Receiver;

use super::acquired::CreateLock;
use super::deferred::Promises;
use super::errors::{CreateFailure, guarded};
use super::exit;
use super::js_thread::JsThread;
use super::lock::JsHolder;
use super::outcome::{Create, Outcome};
use crate::map::Map;
use crate::platform::{self, Os, System};
use crate::protocol::target::Target;
use crate::table::{LockId, Owner};

/// A synchronous wait of the JavaScript thread.
pub(super) struct SyncWait {
    pub(super) answer: Receiver<Outcome>,
    pub(super) target: Target,
    /// The lock to claim under another name of its directory, as the last search has found it.
    pub(super) other: Arc<Mutex<Option<LockId>>>,
}

impl SyncWait {
    pub(super) fn new(answer: Receiver<Outcome>, target: Target) -> Self {
        Self { answer, target, other: Arc::default() }
    }
}

/// The owner of the locks of one environment. Copies of the JavaScript in one thread share it, or at least its owner.
pub(super) struct State {
    pub(super) owner: Owner,
    pub(super) thread: u32,
    /// The synchronous waits of the JavaScript thread.
    pub(super) waits: RefCell<Map<u64, SyncWait>>,
    pub(super) js_thread: JsThread,
    pub(super) promises: Promises,
    pub(super) create: Create,
}

/// `threadId` of `node:worker_threads` in a thread that is not a worker.
const MAIN_THREAD: u32 = 0;

impl State {
    pub(super) fn of(env: &Env) -> Result<&'static Self> {
        let state: Option<&'static mut Self> = env.get_instance_data()?;
        state.map(|state| &*state).ok_or_else(|| Error::from_reason("reconcile-lock was not set up"))
    }
}

/// Prepares this environment, once. `threadId()` is called on a thread that may be a worker; `lock` and `failure` make what
/// most calls return; `resource` is the object of `async_hooks` for the promises.
///
/// The JavaScript may be evaluated again while Node.js keeps the addon, and the addon may be loaded again in the same
/// thread: all of them act for one owner.
///
/// # Errors
/// If a function is missing.
#[napi(catch_unwind)]
pub fn setup(
    env: &Env,
    thread_id: Function<'_, (), u32>,
    #[napi(
        ts_arg_type = "(id: number, path: string, createdAt: number, takenOver: JsTakenOver | null, shared: boolean) => JsLock"
    )]
    lock: CreateLock,
    #[napi(ts_arg_type = "(...fields: unknown[]) => unknown[]")] failure: CreateFailure,
    resource: Object<'_>,
) -> Result<()> {
    guarded(env, || {
        if State::of(env).is_ok() {
            return Ok(());
        }
        let thread = if platform::is_main_thread() { MAIN_THREAD } else { thread_id.call(())? };
        let owner = exit::owner_of_thread();
        let js_thread = JsThread::new(env, &resource)?;
        let promises = Promises::new(js_thread.clone(), settled);
        let (waits, create) = (RefCell::default(), Create { lock, failure });
        env.set_instance_data(State { owner, thread, waits, js_thread, promises, create }, (), |_| {})?;
        platform::keep_loaded();
        // Now, as there is a descriptor: the identity that this reads has no boot id and no start time otherwise.
        Os::get();
        // A worker that ends releases its own locks and no others.
        env.add_env_cleanup_hook(owner, exit::close_environment)?;
        Ok(())
    })
}

/// The value that settles a promise.
fn settled(env: &Env, done: Outcome) -> Result<Unknown<'_>> {
    let state = State::of(env)?;
    state.promises.keep_alive(env, -1);
    state.create.settled(env, done, true)
}

/// Whether a pending promise keeps this environment running.
///
/// # Errors
/// If the addon was not set up.
#[napi(catch_unwind)]
pub fn is_awaited(env: &Env) -> Result<bool> {
    guarded(env, || Ok(State::of(env)?.promises.is_awaited()))
}

/// This process, as its records name it.
///
/// # Errors
/// If the addon was not set up.
#[napi(catch_unwind)]
pub fn own_holder(env: &Env) -> Result<JsHolder> {
    guarded(env, || {
        let identity = Os::get().identity();
        let thread = Some(State::of(env)?.thread);
        Ok(JsHolder { pid: identity.pid, created_at: 0.0, host: identity.host.clone(), thread })
    })
}

//! An object store that dies at a chosen operation, as a process or a machine does.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

/// What becomes of the operation at which the store dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Death {
    /// It is not done.
    Before,
    /// It is done, and the answer is lost.
    After,
    /// A put leaves half of its bytes, as a loss of power before fsync does.
    Torn,
}

#[derive(Default)]
struct Fate {
    /// Operations until death; `None`: it lives.
    left: Option<(u64, Death)>,
    dead: bool,
    operations: u64,
    /// Requests for bytes of objects.
    gets: u64,
    panics: bool,
}

/// Only writes and deletions count as operations: reading changes nothing that a crash could leave half done.
#[derive(Clone)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    fate: Arc<Mutex<Fate>>,
}

enum Verdict {
    Do,
    Half,
    DoAndDie,
    Refuse,
}

impl FaultStore {
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, fate: Arc::default() }
    }

    /// How often bytes of objects were asked for.
    pub fn gets(&self) -> u64 {
        self.fate.lock().gets
    }

    /// The next read of parts panics, as a decoder may that meets bytes which nobody wrote.
    pub fn panic_once(&self) {
        self.fate.lock().panics = true;
    }

    /// Dies at the n-th operation from now on (0: the next).
    pub fn die_at(&self, operation: u64, how: Death) {
        self.fate.lock().left = Some((operation, how));
    }

    /// Whether it has died.
    pub fn is_dead(&self) -> bool {
        self.fate.lock().dead
    }

    /// Lives again, without a death to come: the next process.
    pub fn revive(&self) {
        *self.fate.lock() = Fate::default();
    }

    /// Dies now.
    pub fn kill(&self) {
        self.fate.lock().dead = true;
    }

    fn verdict(&self) -> Verdict {
        let mut fate = self.fate.lock();
        if fate.dead {
            return Verdict::Refuse;
        }
        fate.operations += 1;
        match &mut fate.left {
            None => Verdict::Do,
            Some((0, how)) => {
                let how = *how;
                fate.dead = true;
                match how {
                    Death::Before => Verdict::Refuse,
                    Death::After => Verdict::DoAndDie,
                    Death::Torn => Verdict::Half,
                }
            }
            Some((left, _)) => {
                *left -= 1;
                Verdict::Do
            }
        }
    }

    fn alive(&self) -> Result<()> {
        if self.is_dead() { Err(died()) } else { Ok(()) }
    }
}

fn died() -> Error {
    Error::Generic { store: "faulty", source: "the store died".into() }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultStore")
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultStore")
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match self.verdict() {
            Verdict::Do => self.inner.put_opts(location, payload, options).await,
            Verdict::Refuse => Err(died()),
            Verdict::DoAndDie => {
                self.inner.put_opts(location, payload, options).await?;
                Err(died())
            }
            Verdict::Half => {
                let whole: Bytes = payload.into();
                self.inner.put_opts(location, whole.slice(..whole.len() / 2).into(), options).await?;
                Err(died())
            }
        }
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.alive()?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.alive()?;
        self.fate.lock().gets += 1;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.alive()?;
        let panics = {
            let mut fate = self.fate.lock();
            fate.gets += 1;
            std::mem::take(&mut fate.panics)
        };
        assert!(!panics, "bytes that nobody wrote");
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let one = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                let verdict = store.verdict();
                if matches!(verdict, Verdict::Refuse | Verdict::Half) {
                    return Err(died());
                }
                let only = futures_util::stream::once(std::future::ready(Ok(location.clone()))).boxed();
                let done = store.inner.delete_stream(only).next().await.unwrap_or(Ok(location));
                if matches!(verdict, Verdict::DoAndDie) { Err(died()) } else { done }
            }
        };
        locations.then(one).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.alive() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures_util::stream::once(std::future::ready(Err(error))).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.alive()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.alive()?;
        self.inner.copy_opts(from, to, options).await
    }
}

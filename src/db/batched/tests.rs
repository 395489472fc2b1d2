use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use tokio::sync::mpsc;

use super::*;

type Reads = Batched<u32, Option<u32>>;

#[tokio::test(start_paused = true)]
async fn concurrent_readers_share_a_few_statements() {
    let (batched, statements) = (Arc::new(Reads::default()), Arc::new(AtomicUsize::new(0)));
    let get = |key| {
        let (batched, statements) = (Arc::clone(&batched), Arc::clone(&statements));
        async move {
            let read = move |keys: Vec<u32>| {
                let statements = Arc::clone(&statements);
                let read = async move |keys: Vec<u32>| {
                    statements.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Ok(keys.into_iter().filter(|key| key % 2 == 0).map(|key| (key, key * 10)).collect())
                };
                async move { read_all(keys, read).await }.boxed()
            };
            batched.ask(key, read).await.unwrap()
        }
    };
    let values = join_all((0..1_000).map(get)).await;
    for (key, value) in (0_u32..).zip(values) {
        assert_eq!(value, (key % 2 == 0).then_some(key * 10));
    }
    assert!(statements.load(Ordering::SeqCst) <= 6, "{statements:?}");
    assert_eq!(batched.queue.lock().under_way, 0);
}

#[tokio::test]
async fn failure_reaches_every_reader_and_the_next_read_works() {
    let batched = Arc::new(Reads::default());
    let failing = |_: Vec<u32>| async { vec![Err(DbError::Unavailable("no connection".into()))] }.boxed();
    let failed = batched.ask(1, failing).await;
    assert!(failed.is_err_and(|error| error.is_transient()));
    let working = |_: Vec<u32>| async { vec![Ok(Some(2))] }.boxed();
    assert_eq!(batched.ask(1, working).await.unwrap(), Some(2));
}

/// Questions with a turn: their tens. A statement begins when it is sent to `started`, and ends when its sender is used.
struct Steered {
    batched: Arc<Batched<u32, u32, u32>>,
    begin: mpsc::UnboundedSender<Statement>,
    started: mpsc::UnboundedReceiver<Statement>,
}

struct Statement {
    questions: Vec<u32>,
    end: oneshot::Sender<()>,
}

impl Steered {
    fn new() -> Self {
        let (begin, started) = mpsc::unbounded_channel();
        Self { batched: Arc::new(Batched::in_turns(|question| Some(question / 10))), begin, started }
    }

    /// Asks in the background. The answer to a question is the question.
    async fn ask(&self, question: u32) -> tokio::task::JoinHandle<DbResult<u32>> {
        let (batched, begin) = (Arc::clone(&self.batched), self.begin.clone());
        let answer = move |questions: Vec<u32>| {
            let (end, ended) = oneshot::channel();
            begin.send(Statement { questions: questions.clone(), end }).unwrap();
            async move {
                ended.await.unwrap();
                questions.into_iter().map(Ok).collect()
            }
            .boxed()
        };
        let asked = tokio::spawn(async move { batched.ask(question, answer).await });
        // The runtime has one thread, so afterwards the question waits or is in flight.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        asked
    }

    async fn statement(&mut self) -> Statement {
        self.started.recv().await.unwrap()
    }
}

#[tokio::test]
async fn questions_of_one_turn_are_answered_one_after_the_other() {
    let mut steered = Steered::new();
    let first = steered.ask(11).await;
    let (second, third, other) = (steered.ask(12).await, steered.ask(13).await, steered.ask(20).await);
    let started = steered.statement().await;
    assert_eq!(started.questions, [11]);
    let beside = steered.statement().await;
    assert_eq!(beside.questions, [20], "another turn does not wait");
    started.end.send(()).unwrap();
    assert_eq!(first.await.unwrap().unwrap(), 11);
    for (asked, question) in [(second, 12), (third, 13)] {
        let next = steered.statement().await;
        assert_eq!(next.questions, [question]);
        next.end.send(()).unwrap();
        assert_eq!(asked.await.unwrap().unwrap(), question);
    }
    beside.end.send(()).unwrap();
    assert_eq!(other.await.unwrap().unwrap(), 20);
    assert!(steered.batched.queue.lock().turns.is_empty());
}

#[tokio::test]
async fn aborted_caller_does_not_abort_the_statement_of_others() {
    let mut steered = Steered::new();
    // They keep the places busy, so that the next ones share a statement.
    let (mut busy, mut running) = (Vec::new(), Vec::new());
    for place in (1_u32..).take(AT_ONCE) {
        busy.push(steered.ask(place * 100).await);
        running.push(steered.statement().await);
    }
    let (aborted, kept, never_sent) = (steered.ask(40).await, steered.ask(50).await, steered.ask(60).await);
    never_sent.abort();
    assert!(never_sent.await.unwrap_err().is_cancelled());
    for one in running {
        one.end.send(()).unwrap();
    }
    join_all(busy).await;
    let shared = steered.statement().await;
    assert_eq!(shared.questions, [40, 50], "a question whose caller is gone is not sent");
    aborted.abort();
    assert!(aborted.await.unwrap_err().is_cancelled());
    shared.end.send(()).unwrap();
    assert_eq!(kept.await.unwrap().unwrap(), 50);
}

#[tokio::test]
async fn statement_without_callers_is_aborted_and_its_turns_end() {
    let mut steered = Steered::new();
    let aborted = steered.ask(11).await;
    let mut abandoned = steered.statement().await;
    let settled = {
        let batched = Arc::clone(&steered.batched);
        tokio::spawn(async move { batched.settled(&1).await })
    };
    let next = steered.ask(12).await;
    tokio::task::yield_now().await;
    assert!(!settled.is_finished(), "the turn is in flight");
    aborted.abort();
    abandoned.end.closed().await;
    let second = steered.statement().await;
    assert_eq!(second.questions, [12]);
    second.end.send(()).unwrap();
    assert_eq!(next.await.unwrap().unwrap(), 12);
    settled.await.unwrap();
    steered.batched.settled(&1).await;
    assert_eq!(steered.batched.queue.lock().under_way, 0);
}

//! A source whose encoder fails: the target takes nothing of such a group, says which records it
//! was, and gets them raw.

use std::collections::{BTreeMap, VecDeque};

use offsite_exchange::replication::Runs;
use offsite_exchange::replication::source::{
    Call, Effect, Failure, Given, Input as Told, Listed, Outcome, Parcel, Rules, Transfer,
};
use offsite_model::Luck as _;
use offsite_store::group::CheckedGroup;

use super::*;

const GROUPS: u64 = 1_000;
const RECORDS_OF_GROUP: u64 = 2;

/// What an encoder does wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// No frame of its format.
    Garbled,
    /// A good frame of other bytes.
    OtherBytes,
    /// A frame without its end.
    CutShort,
}

impl Fault {
    /// What comes out in place of a group of these records.
    fn strike(self, mut records: Vec<Vec<u8>>, payload: &mut Vec<u8>) {
        match self {
            Self::Garbled => payload.iter_mut().for_each(|byte| *byte ^= 0x5a),
            Self::OtherBytes => {
                records[0][7] ^= 1;
                let pairs = records.iter().map(|record| (Key::of(record), &record[..]));
                let pairs: Vec<(Key, &[u8])> = pairs.collect();
                let made = CheckedGroup::encode(Form::Plain, &pairs, 1).unwrap();
                *payload = made.payload().to_vec();
            }
            Self::CutShort => drop(payload.pop()),
        }
    }
}

/// The source's machine, carried out over calls of this process, with an encoder that makes one
/// group wrong, each time that it makes it.
struct Sender<'a> {
    bench: &'a Bench,
    image: Image<'a>,
    machine: Transfer,
    live: Option<Arc<Live>>,
    opening: u32,
    keys: Option<(u64, mpsc::Receiver<Out>)>,
    records: BTreeMap<u32, (u64, mpsc::Receiver<Out>)>,
    inputs: VecDeque<Told>,
    /// Among whose records the encoder's fault strikes, and how.
    faulty: u64,
    fault: Fault,
    has_failed: bool,
    n_encoded: u64,
    sent_raw: Vec<Vec<u64>>,
    refused: Vec<Vec<u64>>,
}

impl<'a> Sender<'a> {
    fn new(bench: &'a Bench, image: Image<'a>, faulty: u64, fault: Fault) -> Self {
        let rules = Rules { part_records: RECORDS_OF_GROUP as usize, ..Rules::default() };
        let n_entries = image.contents.len() as u64;
        Self {
            bench,
            image,
            machine: Transfer::new(RECORD, n_entries, Runs::new(), rules),
            live: None,
            opening: 0,
            keys: None,
            records: BTreeMap::new(),
            inputs: VecDeque::from([Told::Start, Told::MayCommit]),
            faulty,
            fault,
            has_failed: false,
            n_encoded: 0,
            sent_raw: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// To the end of the transfer.
    async fn run(&mut self) -> Outcome {
        loop {
            while let Some(input) = self.inputs.pop_front() {
                for effect in self.machine.step(input) {
                    if let Some(outcome) = self.obey(effect).await {
                        return outcome;
                    }
                }
            }
            let (_, answers) = self.keys.as_mut().expect("it waits for nothing");
            let said = answers.recv().await.expect("the stream was cut");
            self.hear(said);
        }
    }

    async fn obey(&mut self, effect: Effect) -> Option<Outcome> {
        let opening = self.machine.opening();
        match effect {
            Effect::Call(call) => self.call(call).await,
            Effect::OpenKeys { .. } => {
                self.opening = opening;
                self.keys = Some(self.live().attach(StreamKind::Keys));
            }
            Effect::OpenRecords { stream, .. } => {
                self.has_failed = false;
                self.records.insert(stream, self.live().attach(StreamKind::Records));
            }
            Effect::Read { opening, first_ordinal, n_entries } => {
                let list = self.image.list().into_iter();
                let window = list.skip(first_ordinal as usize).take(n_entries as usize);
                let entries = window.map(|entry| Listed { entry, place: None }).collect();
                self.inputs.push_back(Told::Listed { opening, entries });
            }
            Effect::SendKeys { window, first_ordinal, entries } => {
                let line = self.keys.as_ref().unwrap().0;
                let input = Input::Keys { window, first_ordinal, entries };
                self.live().step(&self.bench.replicas, input, Some(line));
            }
            Effect::EndKeys { .. } => {
                self.keys = None;
                self.inputs.push_back(Told::Ended { opening, stream: None });
            }
            Effect::Send { stream, parcel } => self.send(stream, &parcel),
            Effect::EndRecords { stream } => {
                self.inputs.push_back(Told::Ended { opening, stream: Some(stream) });
            }
            Effect::DropStreams => {
                self.keys = None;
                self.records.clear();
            }
            Effect::Rest { .. } => self.inputs.push_back(Told::Rested),
            Effect::End(outcome) => return Some(outcome),
        }
        None
    }

    fn live(&self) -> Arc<Live> {
        Arc::clone(self.live.as_ref().unwrap())
    }

    async fn call(&mut self, call: Call) {
        let input = match call {
            Call::Open => {
                let owner = self.image.owner;
                let caller = Caller { owner, is_agent_known: true, quota_bytes: None };
                let replicas = &self.bench.replicas;
                let opened = replicas.open_session(caller, self.image.open()).unwrap().answer;
                let session = opened.session_id.0;
                self.live = Some(replicas.session_by_id(&owner, session).unwrap());
                Told::Opened(Ok(Given {
                    session,
                    state: opened.state,
                    is_resumed: opened.resumed,
                    window_keys: opened.window_keys,
                    windows_in_flight: opened.windows_in_flight,
                    streams_max: opened.max_parallel_streams,
                    credit: opened.initial_credit.0,
                }))
            }
            Call::Transferred(_) => {
                let mut known = Runs::new();
                let bitmap = self.live().transferred().unwrap();
                Bitmap::read(&bitmap).unwrap().runs(|run| known.insert(run)).unwrap();
                Told::Transferred(Ok(known))
            }
            Call::BeginCommit => {
                let end = Input::End { commit: true };
                let begun = self.live().end(&self.bench.replicas, end);
                let outcome = match begun {
                    Ok(_) => self.live().outcome(None).await,
                    Err(refusal) => Err(refusal),
                };
                Told::CommitBegun(outcome.map_err(Failure::Refused))
            }
            Call::Poke(_) | Call::Abort => return,
        };
        self.inputs.push_back(input);
    }

    /// Encodes a group and has the target take it. What is sent on a stream behind a refused group
    /// does not arrive.
    fn send(&mut self, stream: u32, parcel: &Parcel) {
        let (opening, ordinals) = (self.machine.opening(), parcel.ordinals());
        let Parcel::Part { is_raw, .. } = parcel else { panic!("no group lies ready: {parcel:?}") };
        let records: Vec<Vec<u8>> = ordinals
            .iter()
            .map(|ordinal| bytes_of(self.image.contents[*ordinal as usize]))
            .collect();
        let pairs: Vec<(Key, &[u8])> =
            records.iter().map(|record| (Key::of(record), &record[..])).collect();
        let (codec, payload) = if *is_raw {
            self.sent_raw.push(ordinals.to_vec());
            (Codec::None, records.concat())
        } else {
            self.n_encoded += 1;
            let group = CheckedGroup::encode(Form::Plain, &pairs, 1).unwrap();
            let mut payload = group.payload().to_vec();
            assert_eq!(group.codec(), Codec::Zstd);
            if ordinals.contains(&self.faulty) {
                self.fault.strike(records.clone(), &mut payload);
            }
            (group.codec(), payload)
        };
        let entries = ordinals.iter().zip(&pairs);
        let table: Vec<GroupEntry> =
            entries.map(|(ordinal, (key, _))| GroupEntry::new(*ordinal, *key, RECORD)).collect();
        let bytes = 16 + 48 * table.len() as u64 + payload.len() as u64;
        if !self.has_failed {
            let line = self.records[&stream].0;
            let arrived = Arrived { codec, table: table_rows(&table), payload: payload.into() };
            self.arrive(line, table, arrived, bytes);
        }
        self.inputs.push_back(Told::Sent { opening, stream, bytes });
        self.listen();
    }

    /// Takes what has come on all streams; the target cuts who does not.
    fn listen(&mut self) {
        let lines = self.keys.iter_mut().chain(self.records.values_mut());
        let said: Vec<Out> =
            lines.flat_map(|(_, said)| std::iter::from_fn(|| said.try_recv().ok())).collect();
        said.into_iter().for_each(|out| self.hear(out));
    }

    /// What the target does with a group that came on this line.
    fn arrive(&self, line: u64, table: Vec<GroupEntry>, arrived: Arrived, bytes: u64) {
        let (live, replicas) = (self.live(), &self.bench.replicas);
        let input = Input::Group { table, is_encrypted: false, bytes };
        let Some(group) = live.step(replicas, input, Some(line)).stage else { return };
        let outcome = live.append(replicas, arrived);
        live.step(replicas, Input::Staged { group, outcome }, Some(line));
    }

    fn hear(&mut self, said: Out) {
        let opening = self.opening;
        let input = match said {
            Out::Wanted(answer) => Told::Wanted { opening, answer },
            Out::Credit(granted) => Told::Credit { opening, granted },
            Out::Flushed(flushed) => Told::Flushed { opening, flushed },
            Out::Fail(refusal) => {
                self.has_failed = true;
                assert_eq!(refusal.code, ErrorCode::HashMismatch, "{refusal}");
                let named = refusal.detail.as_ref().unwrap()["ordinals"].as_array().unwrap();
                let named: Vec<u64> = named.iter().map(|n| n.as_u64().unwrap()).collect();
                named.iter().for_each(|ordinal| self.assert_unknown(*ordinal));
                self.refused.push(named);
                Told::Cut { opening, failure: Failure::Refused(refusal) }
            }
        };
        self.inputs.push_back(input);
    }

    fn assert_unknown(&self, ordinal: u64) {
        let key = Key::of(&bytes_of(self.image.contents[ordinal as usize]));
        let found = self.bench.replicas.store.find(self.image.owner.tenant, Form::Plain, &key);
        assert_eq!(found.unwrap(), None, "a record of a refused group is in the index");
    }
}

#[tokio::test]
async fn b_05_an_encoder_that_fails_in_one_of_a_thousand_groups_costs_that_group_s_size() {
    let luck = SeededLuck::from_env_or(5);
    let contents: Vec<u64> = (1..=GROUPS * RECORDS_OF_GROUP).collect();
    for fault in [Fault::Garbled, Fault::OtherBytes, Fault::CutShort] {
        let bench = Bench::new(&Disk::new(luck.next()));
        let image = Image { owner: owner(1), number: 1, point: 1, contents: &contents };
        let faulty = luck.below(contents.len() as u64);
        let mut sender = Sender::new(&bench, image, faulty, fault);
        assert_eq!(sender.run().await, Outcome::Committed, "seed {}", luck.seed());
        let first = faulty - faulty % RECORDS_OF_GROUP;
        let group: Vec<u64> = (first..first + RECORDS_OF_GROUP).collect();
        // Refused once, by name, and sent raw; everything else crossed compressed.
        assert_eq!(sender.refused, std::slice::from_ref(&group), "{fault:?}, seed {}", luck.seed());
        assert_eq!(sender.sent_raw, [group], "seed {}", luck.seed());
        assert!(sender.n_encoded >= GROUPS, "{}", sender.n_encoded);
        assert!(bench.bytes_of(&image) == image.bytes(), "the point is another one");
    }
}

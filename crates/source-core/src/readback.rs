//! H2 from the asking side: keys and records of a recovery point at a target.
//!
//! Nothing that comes is believed: only what was asked for is taken, each record is compared with
//! its key, and what is announced bounds what is read. A cut is tried again a few times.
//!
//! **Absent:** what becomes of it: a volume (`wayback`), or a record that is stored again (`heal`).

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use offsite_exchange::replication::source::Failure;
use offsite_model::{AgentId, Digest, PointId, SessionId, VolumeId};
use offsite_proto::codec::Reader;
use offsite_proto::endpoint::{Body as _, Params as _, Values};
use offsite_proto::error::{ErrorBody, ErrorCode, Refusal};
use offsite_proto::group::{self, Group};
use offsite_proto::heal::{
    LIST_COUNT_HEADER, LIST_DIGEST_HEADER, OfPoint, OrdinalRange, RECORD_BYTES_HEADER, ReadRecords,
    VOLUME_BYTES_HEADER, WhichList,
};
use offsite_proto::json::{Json, from_slice};
use offsite_proto::rows;
use offsite_proto::stream::{Decoder, Opcode, StreamKind};
use offsite_proto::text::{Big, Text};
use offsite_proto::window::{KeyWindow, ListEntry};
use offsite_store::group::{CheckedGroup, Codec, Form, TableRow};
use offsite_transport::{Backoff, Outgoing, Retry};

use crate::error::{Blame, Trouble};
use crate::pairing::Means;
use crate::replicate::link::{Link, failure};

/// Failures in a row after which the target counts as gone.
const ATTEMPTS_MAX: u32 = 5;
/// The longest wait for the head of an answer: the target may walk a whole list first.
const HEAD_WITHIN: Duration = Duration::from_secs(300);
/// Bytes of a key on the line, with what stands around it.
const KEY_BYTES: u64 = 64;
/// Bytes of an answer besides keys and records.
const AROUND_BYTES: u64 = 1 << 20;

/// A list of a volume at a target.
#[derive(Clone)]
pub(crate) struct ReadBack {
    pub(crate) link: Arc<Link>,
    pub(crate) agent: AgentId,
    pub(crate) point: PointId,
    pub(crate) volume: VolumeId,
    pub(crate) list: WhichList,
}

/// What the target says of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListHead {
    pub(crate) digest: Digest,
    pub(crate) n_entries: u64,
    pub(crate) volume_bytes: u64,
    pub(crate) record_bytes: u64,
}

/// A group that came, every record compared with its key, and the ordinals of its records.
pub(crate) type Brought = (Vec<u64>, CheckedGroup);

fn malformed(cause: &dyn std::fmt::Display) -> Failure {
    let sentence = format!("the target's answer breaks the protocol: {cause}");
    Failure::Refused(Refusal::new(ErrorCode::ContentInvalid, sentence))
}

impl ReadBack {
    /// What the target says of the list.
    pub(crate) async fn head(&self, means: &Means) -> Result<ListHead, Failure> {
        again(means, || async { self.ask(&[], true, 0, |_, _| Ok(())).await }).await
    }

    /// The entries of a range.
    pub(crate) async fn keys(
        &self,
        means: &Means,
        range: Range<u64>,
    ) -> Result<(ListHead, Vec<ListEntry>), Failure> {
        let n_keys = range.end.saturating_sub(range.start);
        let bytes_max = n_keys.saturating_mul(KEY_BYTES);
        let ranges = [range.clone()];
        again(means, || async {
            let (mut entries, mut next) = (Vec::new(), range.start);
            let head = self.ask(&ranges, true, bytes_max, |opcode, payload| {
                if opcode != Opcode::Keys {
                    return Err(malformed(&"records where keys were asked for"));
                }
                let window = KeyWindow::read(payload).map_err(|e| malformed(&e))?;
                let end = window.first_ordinal.saturating_add(window.entries.len() as u64);
                if window.first_ordinal != next || end > range.end {
                    return Err(malformed(&"other ordinals than were asked for"));
                }
                next = end;
                entries.extend_from_slice(window.entries);
                Ok(())
            });
            let head = head.await?;
            if next != range.end.min(head.n_entries.max(range.start)) {
                return Err(malformed(&"fewer keys than were asked for"));
            }
            Ok((head, entries))
        })
        .await
    }

    /// The records of these entries, by ordinal; a key that stands twice comes once.
    pub(crate) async fn records(
        &self,
        means: &Means,
        wanted: &BTreeMap<u64, ListEntry>,
    ) -> Result<Vec<Brought>, Failure> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for ordinal in wanted.keys() {
            match ranges.last_mut() {
                Some(last) if last.end == *ordinal => last.end = ordinal.saturating_add(1),
                _ => ranges.push(*ordinal..ordinal.saturating_add(1)),
            }
        }
        let mut brought = Vec::new();
        for part in ranges.chunks(offsite_proto::heal::RANGES_MAX) {
            let bytes_max = part.iter().flat_map(|range| wanted.range(range.clone())).fold(
                AROUND_BYTES,
                |sum, (_, entry)| {
                    let around = KEY_BYTES.saturating_mul(3);
                    sum.saturating_add(around).saturating_add(entry.bytes().into())
                },
            );
            let asked = again(means, || async {
                let mut groups = Vec::new();
                self.ask(part, false, bytes_max, |opcode, payload| {
                    if opcode == Opcode::Records {
                        take_groups(payload, wanted, &mut groups)?;
                    }
                    Ok(())
                })
                .await?;
                Ok(groups)
            });
            brought.extend(asked.await?);
        }
        Ok(brought)
    }

    /// One call; `take` is given the payloads of KEYS and RECORDS frames.
    async fn ask(
        &self,
        ranges: &[Range<u64>],
        keys_only: bool,
        bytes_max: u64,
        mut take: impl FnMut(Opcode, &[u8]) -> Result<(), Failure>,
    ) -> Result<ListHead, Failure> {
        let connection = self.link.connection().await?;
        let mut values = Values::new();
        OfPoint { agent: self.agent, point: self.point }.write(&mut values);
        let range = |range: &Range<u64>| OrdinalRange {
            first: Big(range.start),
            count: Big(range.end.saturating_sub(range.start)),
        };
        let asked = ReadRecords {
            driver_volume_id: Text(self.volume),
            list: self.list,
            ranges: ranges.iter().map(range).collect(),
            keys_only,
        };
        let (body, media) =
            (Outgoing::whole(Json(asked).encode()), HeaderValue::from_static("application/json"));
        let bytes_max = bytes_max.saturating_add(AROUND_BYTES);
        let asking = connection.stream(&rows::H2, &values, media, body, bytes_max);
        let answer = tokio::time::timeout(HEAD_WITHIN, asking).await.map_err(|_| Failure::Cut)?;
        let mut answer = answer.map_err(failure)?;
        let head = head(&answer.headers).ok_or_else(|| malformed(&"a header is missing"))?;
        let id = SessionId::from_bytes(self.point.to_bytes());
        let mut decoder = Decoder::new(StreamKind::Records, id);
        loop {
            let piece = answer.body.next().await.map_err(|refusal| {
                tracing::debug!(cause = %refusal, "reading back was cut");
                Failure::Cut
            })?;
            let Some(piece) = piece else { return Err(Failure::Cut) };
            // What is not read is not sent either.
            tokio::time::sleep(self.link.pace(piece.len() as u64)).await;
            decoder.push(&piece);
            while let Some(frame) = decoder.next_frame().map_err(|e| malformed(&e))? {
                match frame.opcode {
                    Opcode::Keys | Opcode::Records => take(frame.opcode, &frame.payload)?,
                    Opcode::Fail => {
                        let error = from_slice::<ErrorBody>(&frame.payload);
                        return Err(Failure::Refused(error.map_err(|e| malformed(&e))?.error));
                    }
                    Opcode::End => return Ok(head),
                    Opcode::Ping | Opcode::Other(_) => {}
                    other => return Err(malformed(&format!("{other:?} where it cannot be"))),
                }
            }
        }
    }
}

fn head(headers: &HeaderMap) -> Option<ListHead> {
    fn number<T: FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
        headers.get(name)?.to_str().ok()?.parse().ok()
    }
    Some(ListHead {
        digest: number(headers, LIST_DIGEST_HEADER)?,
        n_entries: number(headers, LIST_COUNT_HEADER)?,
        volume_bytes: number(headers, VOLUME_BYTES_HEADER)?,
        record_bytes: number(headers, RECORD_BYTES_HEADER)?,
    })
}

/// Takes the groups of a RECORDS frame: each decoded, each record compared with its key, and
/// nothing that was not asked for.
fn take_groups(
    payload: &[u8],
    wanted: &BTreeMap<u64, ListEntry>,
    groups: &mut Vec<Brought>,
) -> Result<(), Failure> {
    let mut reader = Reader::new("a RECORDS frame", payload);
    while !reader.is_empty() {
        let group = Group::read(&mut reader).map_err(|e| malformed(&e))?;
        for entry in group.table {
            let asked = wanted.get(&entry.ordinal());
            let is_it = asked.is_some_and(|asked| {
                asked.key() == entry.key() && asked.bytes() == entry.raw_bytes()
            });
            if !is_it {
                return Err(malformed(&"a record that was not asked for"));
            }
        }
        let row =
            |entry: &group::GroupEntry| TableRow { key: entry.key(), raw_bytes: entry.raw_bytes() };
        let codec = match group.codec {
            group::Codec::None => Codec::None,
            group::Codec::Zstd => Codec::Zstd,
        };
        let form = if group.is_encrypted { Form::Encrypted } else { Form::Plain };
        let table = group.table.iter().map(row).collect();
        let checked = CheckedGroup::check(form, codec, table, group.payload);
        let ordinals = group.table.iter().map(group::GroupEntry::ordinal).collect();
        groups.push((ordinals, checked.map_err(|e| malformed(&e))?));
    }
    Ok(())
}

/// Tries until it goes, or until it cannot.
async fn again<T, W: Future<Output = Result<T, Failure>>>(
    means: &Means,
    mut attempt: impl FnMut() -> W,
) -> Result<T, Failure> {
    let mut n_failed = 0_u32;
    loop {
        let failed = match attempt().await {
            Ok(value) => return Ok(value),
            Err(failed) => failed,
        };
        n_failed = n_failed.saturating_add(1);
        let advice = match &failed {
            Failure::Cut => None,
            Failure::Refused(refusal) if refusal.retryable => refusal.retry_after_secs,
            Failure::Refused(_) => return Err(failed),
        };
        let advice = advice.map(u64::from).map(Duration::from_secs);
        let pause = Backoff::default().delay(n_failed, Retry::Later(advice), &*means.luck);
        match pause {
            Some(pause) if n_failed < ATTEMPTS_MAX => tokio::time::sleep(pause).await,
            _ => return Err(failed),
        }
    }
}

/// What a failure means to the operator.
pub(crate) fn trouble(failed: Failure, doing: &str) -> Trouble {
    let refusal = match failed {
        Failure::Refused(refusal) => refusal,
        Failure::Cut => {
            let message = format!("the target could not be reached while {doing}");
            return Trouble::peer(
                ErrorCode::TargetUnreachable,
                message,
                "nothing was changed; start it again when the target can be reached",
            );
        }
    };
    let message = format!("{doing}: the target says: {}", refusal.message);
    match refusal.code {
        ErrorCode::Forbidden => Trouble::peer(
            ErrorCode::Forbidden,
            "the target does not let this source read its recovery points back",
            "the target's operator allows it when the pairing is accepted: \
                offsite-target requests accept ID --allow-restore",
        ),
        code @ (ErrorCode::PointUnknown | ErrorCode::AgentUnknown | ErrorCode::ImageUnknown) => {
            Trouble::operator(code, message, "see what is there at the target")
        }
        ErrorCode::HashMismatch => Trouble {
            blame: Blame::Disk,
            code: ErrorCode::HashMismatch,
            message,
            hint: "replicate the agent: what this source still has heals the target".to_owned(),
        },
        code => Trouble::peer(code, message, "nothing was changed; start it again"),
    }
}

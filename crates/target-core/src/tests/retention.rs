//! Retention over the routers and through time: what a source, an operator, a policy and a clock
//! can make go, and what nobody can.

mod locks;
mod novelty;
mod policies;
mod sources;
mod waiting;

use std::sync::Arc;

use offsite_content::{Content, Part, ReadError};
use offsite_model::{AgentId, Digest, PointId, Span, Timestamp};
use offsite_proto::admin::target as calls;
use offsite_proto::error::ErrorCode;
use offsite_store::Point;

use super::admin::Desk;
use super::replicas;
use super::scene::{Scene, Source};
use super::wire::{Image, Wire};
use crate::principal::{PairedPeer, Role, TenantScope};
use crate::replicas::{Owner, Replicas};

const DAY: Span = Span::from_days(1);

/// A target with a store, its operator listener, and one paired source.
struct Vault {
    desk: Desk,
    source: Source,
    owner: Owner,
    /// The token of an administrator.
    root: String,
}

impl Vault {
    async fn open() -> Self {
        let desk = Desk::of(replicas::scene().await).await;
        let source = desk.scene.paired().await;
        let place = desk.scene.target.register().peers().unwrap()[0].place.clone().unwrap();
        let owner = Owner { tenant: place.tenant.0, source: place.subject.0 };
        let root = desk.account("root", Role::Administrator, &TenantScope::All);
        Self { desk, source, owner, root }
    }

    /// The source as the gate knows it.
    fn peer(&self) -> PairedPeer {
        let thumbprint = *self.source.key.spki().thumbprint().as_bytes();
        PairedPeer::vouched_by_gate(self.owner.source, self.owner.tenant, thumbprint, false)
    }

    const fn scene(&self) -> &Scene {
        &self.desk.scene
    }

    fn replicas(&self) -> Arc<Replicas> {
        self.scene().target.replicas().unwrap()
    }

    fn agent(&self, index: usize) -> AgentId {
        self.source.agents[index].id.0
    }

    /// Commits a point of the first agent, as if its source said that it was taken then.
    fn plant(&self, number: u32, taken_at: Timestamp) -> PointId {
        self.replicas().plant(&self.owner, self.agent(0), number, taken_at)
    }

    /// Sends an image, as a source does.
    async fn send(&self, image: &Image) {
        let wire = Wire::open(self.scene(), &self.source, image).await.unwrap();
        wire.offer(image).await;
        wire.send(&image.groups()).await.unwrap();
        wire.commit().await.unwrap();
    }

    /// Lets time pass, with retention at work once an hour.
    fn pass(&self, span: Span) {
        let hour = Span::from_hours(1);
        for _ in 0..span.as_secs() / hour.as_secs() {
            self.scene().advance(hour);
            self.scene().target.keep_retention().unwrap();
        }
    }

    fn points(&self) -> Vec<Point> {
        self.replicas().store.points(self.owner.tenant).unwrap()
    }

    fn n_live(&self) -> usize {
        self.points().iter().filter(|point| point.deleted_at.is_none()).count()
    }

    /// What a point restores to.
    fn restored(&self, point: &Point) -> Digest {
        let store = self.replicas().store.clone();
        let tenant = self.owner.tenant;
        let image = store.image(tenant, point.point, point.images[0].volume).unwrap();
        let mut bytes = Vec::new();
        let content = Content::new(store, tenant, image, 1);
        let read = content.in_order::<ReadError>(&mut |part| {
            match part {
                Part::Zeros(n) => bytes.extend(std::iter::repeat_n(0, n as usize)),
                Part::Bytes(more) => bytes.extend_from_slice(&more),
            }
            Ok(())
        });
        read.unwrap();
        Digest::of(&bytes)
    }

    /// What every point restores to, deleted ones too.
    fn all_restored(&self) -> Vec<(PointId, Digest)> {
        self.points().iter().map(|point| (point.point, self.restored(point))).collect()
    }

    async fn ask<E: offsite_proto::endpoint::Endpoint>(
        &self,
        params: E::Params,
        body: E::Request,
    ) -> Result<E::Response, ErrorCode> {
        let answer = self.desk.ask::<E>(&self.root, params, body).await;
        answer.map_err(|refusal| refusal.code)
    }

    async fn listed(&self) -> Vec<calls::Point> {
        let of = calls::OfAgent(self.agent(0).to_string());
        self.ask::<calls::ListPoints>(of, ()).await.unwrap().0
    }

    /// Entries of the audit log with this word.
    fn n_audited(&self, word: &str) -> usize {
        let rows = self
            .scene()
            .target
            .catalog_read(|rows| Ok(crate::audit::newest(rows, &TenantScope::All, 100_000)?));
        rows.unwrap().iter().filter(|entry| entry.event == word).count()
    }
}

fn images(n: u8) -> impl Iterator<Item = Image> {
    (1..=n).map(|number| Image {
        number,
        contents: (1..=3).map(|n| 10 * u64::from(number) + n).collect(),
    })
}

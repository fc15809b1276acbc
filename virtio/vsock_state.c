/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of the socket device. Nothing that it has in flight accesses guest memory, so it is never busy. The
 * connections of a restored guest have lost their other ends. An event tells its driver so (section 5.10.6.7), which
 * then resets them all.
 *
 * It resets all that it has when it handles the event, new ones too, and Linux may handle packets of the rx queue
 * before an event that came earlier: its queues have workers of their own. So no connection begins before the driver
 * has returned the event's buffer, which it does after handling it. Until then clients wait, and requests of the guest
 * are refused.
 */
#include "virtio/state.h"
#include "virtio/vsock_conn.h"

/* own[0] is the host port assigned last: the ports of connections that are gone are not used again at once. */
void vsock_save(const struct virtio_dev *dev, struct virtio_state *state)
{
	state->own[0] = ((const struct vsock *)dev)->next_host_port;
}

int vsock_restore(struct virtio_dev *dev, const struct virtio_state *state, struct err *err)
{
	struct vsock *v = (struct vsock *)dev;
	(void)err;
	v->next_host_port = (uint32_t)state->own[0]; /* any is good: conn_request corrects it */
	v->stale = state->active ? STALE_UNTOLD : STALE_NO;
	return 0;
}

bool vsock_stale(struct vsock *v)
{
	if (v->stale == STALE_TOLD && virtq_watch(&v->dev.queue[EVENTQ].vq, v->told_at))
		v->stale = STALE_NO;
	return v->stale != STALE_NO;
}

/* Puts the event into a buffer of the driver. False if there is none. */
static bool tell(struct vsock *v)
{
	static const struct virtio_vsock_event event = {.id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET};
	struct virtq_chain *chain = &v->batch[0];
	if (!virtio_fetch(&v->dev, EVENTQ, chain))
		return false;
	if (chain->writable_bytes < sizeof(event)) {
		virtio_fail(&v->dev, "a vsock event buffer has no room for an event");
		return false;
	}
	v->told_at = v->dev.queue[EVENTQ].vq.avail_seen;
	v->stale = STALE_TOLD;
	guest_store_iov(chain->iov + chain->readable, chain->writable, 0, &event, sizeof(event));
	virtio_complete(&v->dev, EVENTQ, chain->head, sizeof(event));
	return true;
}

void vsock_event(struct vsock *v)
{
	while (v->stale == STALE_UNTOLD && !tell(v)) {
		if (!virtio_more(&v->dev, EVENTQ))
			return;
	}
	if (!vsock_stale(v))
		virtio_kick_again(&v->dev, RXQ); /* clients wait */
}

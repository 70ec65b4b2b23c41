/* SPDX-License-Identifier: MIT */
/*
 * A chunk of which leaves were read: digests each leaf once, compares with the tree, and gives what differs
 * to the sender. Belongs to one worker; the tree is read under the replicator's lock.
 */
#include <string.h>

#include "engine/replicate/pass.h"

size_t leaf_bytes(const struct volume *v, uint64_t leaf)
{
	uint64_t left = v->size - leaf * SOSIE_LEAF;

	return left < SOSIE_LEAF ? (size_t)left : SOSIE_LEAF;
}

int leaves_load(struct sosie_replicator *r, unsigned volume, uint64_t chunk, struct chunk_leaves *out,
                struct sosie_err *err)
{
	const struct volume *v = &r->volumes[volume];
	uint64_t leaves = (v->size - 1) / SOSIE_LEAF + 1 - chunk * SOSIE_FANOUT;
	int rc;

	out->volume = volume;
	out->chunk = chunk;
	out->count = leaves < SOSIE_FANOUT ? (unsigned)leaves : SOSIE_FANOUT;
	out->read = out->data = out->zero = 0;
	memset(out->bytes, 0, sizeof(out->bytes));
	memset(out->changed, 0, sizeof(out->changed));
	pthread_mutex_lock(&r->lock);
	rc = sosie_tree_get(v->tree, 0, chunk, out->old, err);
	pthread_mutex_unlock(&r->lock);
	return rc;
}

/* After a comparison, leaves that were found equal are what the standby has, as they were digested then.
 * Their digests of now only matter to a signature. */
static bool is_settled(const struct volume *v, const struct sosie_digest *old)
{
	return v->only_unknown && !sosie_digest_equal(old, &leaf_unknown);
}

static void add_leaf(struct chunk_leaves *c, unsigned i, bool settled)
{
	c->changed[i] = !settled && !sosie_digest_equal(&c->old[i], &c->fresh[i]);
	if (c->changed[i] && sosie_digest_is_zero(&c->fresh[i]))
		c->zero++;
	else if (c->changed[i])
		c->data++;
}

void leaves_add(struct sosie_replicator *r, struct chunk_leaves *c, struct sosie_hash *hash, uint64_t start,
                uint64_t len, const uint8_t *bytes)
{
	const struct volume *v = &r->volumes[c->volume];
	bool all = !v->only_unknown || chunk_delta_serves(r, c);

	for (uint64_t at = 0; at < len; at += SOSIE_LEAF) {
		uint64_t leaf = (start + at) / SOSIE_LEAF;
		unsigned i = (unsigned)(leaf % SOSIE_FANOUT);
		bool settled = is_settled(v, &c->old[i]);

		c->bytes[i] = bytes + at;
		c->read++;
		if (all || !settled)
			sosie_digest_leaf(hash, &v->ctx, leaf, bytes + at, leaf_bytes(v, leaf), &c->fresh[i]);
		add_leaf(c, i, settled);
	}
}

int leaves_send(struct sosie_replicator *r, const struct chunk_leaves *c, struct sender *s,
                struct sosie_file *file, struct sosie_err *err)
{
	const struct volume *v = &r->volumes[c->volume];
	bool delta = c->data + c->zero > 0 && chunk_delta_serves(r, c), sent = false;
	int rc = 0;

	if (delta && c->data > 0)
		rc = sender_delta(s, c, &sent, err);
	for (unsigned i = 0; rc == 0 && i < c->count && c->data + c->zero > 0; i++) {
		uint64_t leaf = c->chunk * SOSIE_FANOUT + i;

		if (!c->changed[i])
			continue;
		if (sosie_digest_is_zero(&c->fresh[i]))
			rc = sender_zero(s, SOSIE_RECORD_ZERO, c->volume, leaf, err);
		else if (!sent)
			rc = sender_leaf(s, c->volume, leaf, &c->fresh[i], &c->old[i], c->bytes[i],
			                 leaf_bytes(v, leaf), err);
	}
	return rc == 0 && delta ? sender_sign(s, c, file, err) : rc;
}

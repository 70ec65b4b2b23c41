/* SPDX-License-Identifier: MIT */
/* One tenant's inbox, opened for one session. */
#include "engine/inbox/internal.h"

#include "sosie/bytes.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int sosie_inbox_open(struct sosie_io *io, struct sosie_clock *clock, const char *store, const char *tenant,
                     const char *key, struct sosie_inbox **out, struct sosie_err *err)
{
	uint8_t key_bytes[INBOX_KEY_HEX / 2];
	*out = NULL;
	if (!*store || strlen(store) > INBOX_STORE_MAX)
		return sosie_err_set(err, SOSIE_EUSAGE, "the path of the store is empty or longer than %u",
		                     INBOX_STORE_MAX);
	if (!sosie_unhex(key_bytes, sizeof key_bytes, key))
		return sosie_err_set(err, SOSIE_EUSAGE, "a key id is %u lower-case hexadecimal digits",
		                     INBOX_KEY_HEX);
	struct sosie_inbox *in = calloc(1, sizeof *in);
	if (!in)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for an inbox");
	in->io = io;
	in->clock = clock;
	memcpy(in->key, key, INBOX_KEY_HEX + 1);
	int rc = sosie_name_set(&in->tenant, SOSIE_NAME_TENANT, tenant, err);
	if (!rc) {
		snprintf(in->base, sizeof in->base, "%s/%s", store, in->tenant.s);
		rc = inbox_store_check(in, store, err);
	}
	if (!rc)
		rc = inbox_limits_read(in, err);
	if (!rc)
		rc = inbox_key_check(in, err);
	if (rc) {
		free(in);
		return rc;
	}
	*out = in;
	return 0;
}

void sosie_inbox_close(struct sosie_inbox *in)
{
	if (!in)
		return;
	inbox_part_drop(in);
	for (unsigned i = 0; i < INBOX_HOLDS; i++)
		inbox_hold_release(in, &in->holds[i]);
	free(in);
}

void sosie_inbox_restrict(struct sosie_inbox *in, const struct sosie_name *groups, unsigned count)
{
	assert(count <= SOSIE_INBOX_GROUPS_MAX);
	in->group_count = count;
	for (unsigned i = 0; i < count; i++)
		in->groups[i] = groups[i];
}

void sosie_inbox_store_id(const struct sosie_inbox *in, struct sosie_store_id *out)
{
	*out = in->store;
}

const struct sosie_name *sosie_inbox_tenant(const struct sosie_inbox *in)
{
	return &in->tenant;
}

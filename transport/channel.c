/* SPDX-License-Identifier: MIT */
/* The checked way into a channel: each wrapper asserts the contract of include/sosie/channel.h around the
 * call. */
#include "sosie/channel.h"

#include <assert.h>

int sosie_channel_send(struct sosie_channel *ch, const void *data, size_t len, struct sosie_err *err)
{
	assert(ch && (data || !len));
	if (!len)
		return 0;
	int rc = ch->ops->send(ch, data, len, err);
	assert(rc <= 0);
	return rc;
}

int sosie_channel_recv(struct sosie_channel *ch, void *data, size_t size, size_t *got, int timeout_ms,
                       struct sosie_err *err)
{
	assert(ch && data && size && got && timeout_ms >= -1);
	*got = 0;
	int rc = ch->ops->recv(ch, data, size, got, timeout_ms, err);
	assert(rc <= 0 && *got <= size && (!rc || !*got));
	return rc;
}

void sosie_channel_close(struct sosie_channel *ch)
{
	if (ch)
		ch->ops->close(ch);
}

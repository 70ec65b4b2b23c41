/* SPDX-License-Identifier: MIT */
/* Predicting how long a cut will hold the writers. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/source/stalls.h"

#define FEW_EXTENTS 256u /* below, a clone's time says nothing about the time for one */
#define NUMBER_MAX (UINT64_C(1) << 40)

void stalls_init(struct stalls *s)
{
	*s = (struct stalls){.rounds = 1, .last_us = -1, .last_predicted_us = -1};
}

static uint64_t rate(const struct stalls *s)
{
	return s->extent_ns ? s->extent_ns : STALLS_FIRST_NS;
}

int64_t stalls_predict(const struct stalls *s, uint64_t extents)
{
	if (extents == 0 && !s->known)
		return -1;
	extents = extents < NUMBER_MAX ? extents * s->rounds : NUMBER_MAX;
	return (int64_t)(extents / 1000 * rate(s) + extents % 1000 * rate(s) / 1000 + s->fixed_us);
}

/* A third of the new value: three cuts settle it. */
static uint64_t average(uint64_t old, uint64_t new, bool first)
{
	new = new < NUMBER_MAX ? new : NUMBER_MAX;
	return first ? new : (2 * old + new) / 3;
}

void stalls_note(struct stalls *s, uint64_t extents, int64_t predicted_us, int64_t held_us,
                 int64_t cloning_us, unsigned rounds)
{
	int64_t fixed = held_us - cloning_us;

	s->rounds = rounds < 1 ? 1 : rounds < STALLS_ROUNDS ? rounds : STALLS_ROUNDS;
	if (extents >= FEW_EXTENTS) {
		uint64_t each = (uint64_t)cloning_us * 1000 / extents / s->rounds;

		s->extent_ns = average(s->extent_ns, each ? each : 1, s->extent_ns == 0);
	} else {
		fixed = held_us - (int64_t)(extents * s->rounds * rate(s) / 1000);
	}
	s->fixed_us = average(s->fixed_us, fixed > 0 ? (uint64_t)fixed : 0, !s->known);
	s->known = true;
	s->last_us = held_us;
	s->last_predicted_us = predicted_us;
	if (s->counts == STALLS_GROWTH + 1)
		memmove(s->extents, s->extents + 1, --s->counts * sizeof(s->extents[0]));
	s->extents[s->counts++] = extents;
}

bool stalls_growing(const struct stalls *s)
{
	if (s->counts <= STALLS_GROWTH)
		return false;
	for (unsigned i = 1; i < s->counts; i++)
		if (s->extents[i] <= s->extents[i - 1])
			return false;
	return true;
}

/* --- the file: "2 EXTENT_NS FIXED_US ROUNDS EXTENTS…\n"
 * -----------------------------------------------------------
 */

static bool take_number(const char **at, uint64_t *out)
{
	char *end;

	if (**at != ' ' || (*at)[1] < '0' || (*at)[1] > '9')
		return false;
	*out = strtoull(*at + 1, &end, 10);
	*at = end;
	return *out <= NUMBER_MAX;
}

static bool parse(struct stalls *s, const char *text)
{
	const char *at = text + 1;
	uint64_t rounds;

	if (text[0] != '2' || !take_number(&at, &s->extent_ns) || !take_number(&at, &s->fixed_us) ||
	    !take_number(&at, &rounds) || rounds < 1 || rounds > STALLS_ROUNDS)
		return false;
	s->rounds = (unsigned)rounds;
	while (*at == ' ' && s->counts <= STALLS_GROWTH)
		if (!take_number(&at, &s->extents[s->counts++]))
			return false;
	s->known = true;
	return strcmp(at, "\n") == 0;
}

void stalls_load(struct stalls *s, int fd, const char *name)
{
	char text[512];
	int file = openat(fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = file >= 0 ? read(file, text, sizeof(text) - 1) : -1;

	stalls_init(s);
	if (file >= 0)
		close(file);
	if (n <= 0)
		return;
	text[n] = '\0';
	if (!parse(s, text))
		stalls_init(s);
}

void stalls_save(const struct stalls *s, int fd, const char *name, const char *temporary)
{
	char text[512];
	int file, len = snprintf(text, sizeof(text), "2 %" PRIu64 " %" PRIu64 " %u", s->extent_ns,
	                         s->fixed_us, s->rounds);

	for (unsigned i = 0; i < s->counts; i++)
		len += snprintf(text + len, sizeof(text) - (size_t)len, " %" PRIu64,
		                s->extents[i] < NUMBER_MAX ? s->extents[i] : NUMBER_MAX);
	text[len++] = '\n';
	file = openat(fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (file < 0)
		return;
	if (write(file, text, (size_t)len) != len || renameat(fd, temporary, fd, name) != 0)
		(void)unlinkat(fd, temporary, 0);
	close(file);
}

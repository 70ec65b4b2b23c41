/* SPDX-License-Identifier: MIT */
/* Questions to confined children, what their ends mean, and the idle ones. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/store/confined.h"

#define MS INT64_C(1000000) /* ns */
#define KILLED_TRIES 3u
#define SILENT_TRIES 2u
#define CPU_ALLOWANCE (50 * MS) /* of a question, free of debt: an honest one takes 20 ms at most */
#define WAIT_ALLOWANCE_MS 1000  /* the same, where the machine has much else to do */

static_assert(SOSIE_MANIFEST_MAX <= CONFINED_IN && SOSIE_RECORD_PLAIN_MAX <= CONFINED_IN &&
                      SAME_BYTES <= CONFINED_IN,
              "each question's bytes fit into the area's in");

struct confined {
	struct confined *next; /* idle: the one used before it */
	struct sosie_name tenant;
	struct sosie_child *child;
	const struct confined_kind *kind;
	int64_t cpu_ns, cpu_debt_ns, wait_debt_ms; /* processor time when debts were counted last, and they */
	unsigned questions;                        /* since then */
	uint64_t answered; /* the start that has answered: it is confined, and holds no descriptor of ours */
	int64_t used_ms;   /* when it was put back */
};
struct confined_home {
	const struct confined_kind *kind;
	struct confined *idle; /* the last used first */
	unsigned count;
};

/* --- the child
 * -------------------------------------------------------------------------------------------------- */

static int unpack(struct unpacker *u, struct confined_area *area, const struct sosie_child_message *m)
{
	const struct packed p = {.kind = (enum sosie_record_kind)m->word[CONFINED_WORD_KIND],
	                         .encoding = m->word[CONFINED_WORD_ENCODING],
	                         .payload = area->in,
	                         .payload_len = m->word[CONFINED_WORD_LEN],
	                         .basis = m->word[CONFINED_WORD_BASIS_LEN] ? area->basis : NULL,
	                         .basis_len = m->word[CONFINED_WORD_BASIS_LEN],
	                         .plain_len = m->word[CONFINED_WORD_PLAIN_LEN]};
	return unpacker_run(u, &p, area->out.plain, NULL);
}

static int read_manifest(struct confined_area *area, size_t len)
{
	struct sosie_manifest m;
	int rc = manifest_get(area->in, len, &m, NULL);
	if (!rc)
		manifest_summarise(&m, &area->out.manifest);
	sosie_manifest_fini(&m);
	return rc;
}

static void answer(void *arg, void *shared, struct sosie_child_message *m)
{
	struct confined_area *area = shared;
	int rc = -SOSIE_EINTERNAL;
	switch ((enum confined_op)m->word[CONFINED_WORD_OP]) {
	case CONFINED_UNPACK:
		rc = unpack(arg, area, m);
		break;
	case CONFINED_MANIFEST:
		rc = read_manifest(area, m->word[CONFINED_WORD_LEN]);
		break;
	case CONFINED_SAME:
		rc = same_get(area->in, m->word[CONFINED_WORD_LEN], &area->out.same, NULL);
		break;
	}
	m->word[CONFINED_WORD_CODE] = (uint32_t)-rc;
}

static void run(int socket, void *area)
{
	struct unpacker *u;
	if (unpacker_new(&u, NULL) == 0)
		sosie_child_serve(socket, area, answer, u);
}

/* Memory: a manifest of 16,384 asks takes some 30 MiB as JSON. Time: the slowest honest record takes 20 ms.
 */
const struct confined_kind confined_kind = {
        .child = {.name = "sosie-confined",
                  .area_bytes = sizeof(struct confined_area),
                  .memory_bytes = 64u << 20,
                  .wall_ns = 20000 * MS,
                  .cpu_ns = 2000 * MS,
                  .run = run},
        .cpu_debt_ns = 10000 * MS,
        .wait_debt_ms = 60000,
};

/* --- questions
 * -------------------------------------------------------------------------------------------------- */

struct question {
	const char *what; /* "the payload": subject of a sentence */
	const void *in, *basis;
	size_t in_len, basis_len;
	struct sosie_child_message m;
};

/* Could this process have what the child's limit is? Else memory is short for all. */
static bool memory_is_there(const struct sosie_child_kind *kind)
{
	void *p = mmap(NULL, (size_t)kind->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
	               -1, 0);
	if (p == MAP_FAILED)
		return false;
	munmap(p, (size_t)kind->memory_bytes);
	return true;
}

static int out_of_memory(struct sosie_err *err, const char *what, const char *why)
{
	sosie_err_set(err, SOSIE_ENOMEM, "%s cannot be read now: the child that does it %s", what, why);
	return sosie_err_action(err,
	                        "give this machine or service more memory or processes; it is tried again");
}

/* The child's word is a code; its text stays there, which might be somebody else's memory. */
static int judge_code(struct confined *c, const struct question *q, uint32_t code, struct sosie_err *err)
{
	if (code == SOSIE_OK)
		return 0;
	if (code == SOSIE_ECORRUPT)
		return sosie_err_set(err, SOSIE_ECORRUPT, "%s is damaged, or not of this format", q->what);
	if (code == SOSIE_ENEWER && q->m.word[CONFINED_WORD_OP] == CONFINED_MANIFEST)
		return sosie_err_set(err, SOSIE_ENEWER, "%s is of a newer format than this release reads",
		                     q->what);
	sosie_child_end(c->child);
	if (code != SOSIE_ENOMEM)
		return sosie_err_set(err, SOSIE_ECORRUPT, "%s made the child that reads it say nonsense",
		                     q->what);
	if (!memory_is_there(&c->kind->child))
		return out_of_memory(err, q->what, "has no memory");
	return sosie_err_set(err, SOSIE_ECORRUPT, "%s takes more memory to read than any honest one",
	                     q->what);
}

/* Of an end without an answer. */
static int judge_end(struct confined *c, const struct question *q, enum sosie_child_result result,
                     struct sosie_err *err)
{
	char why[96];
	sosie_child_text(c->child, result, why, sizeof(why));
	if (result == SOSIE_CHILD_NONE || result == SOSIE_CHILD_KILLED)
		return out_of_memory(err, q->what, why);
	return sosie_err_set(err, SOSIE_ECORRUPT, "%s: the child that read it %s", q->what, why);
}

static int64_t sum_not_below_0(int64_t a, int64_t b)
{
	return a + b > 0 ? a + b : 0;
}

/* After an answer. Clocks are read only after slow ones: the others cannot have used more than a tick. */
static int charge(struct confined *c, const struct question *q, struct sosie_err *err)
{
	const int64_t waited = sosie_child_waited_ms(c->child);
	c->questions++;
	if (waited == 0)
		return 0;
	const int64_t now = sosie_child_cpu_ns(c->child), n = c->questions;
	c->cpu_debt_ns = sum_not_below_0(c->cpu_debt_ns, now - c->cpu_ns - n * CPU_ALLOWANCE);
	c->wait_debt_ms = sum_not_below_0(c->wait_debt_ms, waited - n * WAIT_ALLOWANCE_MS);
	c->cpu_ns = now;
	c->questions = 0;
	if (c->cpu_debt_ns < c->kind->cpu_debt_ns && c->wait_debt_ms < c->kind->wait_debt_ms)
		return 0;
	sosie_child_end(c->child);
	c->cpu_debt_ns = c->wait_debt_ms = 0;
	return sosie_err_set(err, SOSIE_ECORRUPT,
	                     "%s: what this source sends takes far longer to read than any honest source's",
	                     q->what);
}

/* 0: the answer lies in the area's out. */
static int ask(struct confined *c, const struct question *q, struct sosie_err *err)
{
	unsigned killed = 0, silent = 0;
	enum sosie_child_result result;
	struct sosie_child_message m;
	do {
		struct confined_area *area = sosie_child_area(c->child);
		if (!area)
			return out_of_memory(err, q->what, "has no memory");
		memcpy(area->in, q->in, q->in_len); /* again: the one before may have changed it */
		if (q->basis_len)
			memcpy(area->basis, q->basis, q->basis_len);
		m = q->m;
		result = sosie_child_ask(c->child, &m);
		killed += result == SOSIE_CHILD_KILLED;
		silent += result == SOSIE_CHILD_SILENT;
	} while ((result == SOSIE_CHILD_KILLED && killed < KILLED_TRIES) ||
	         (result == SOSIE_CHILD_SILENT && silent < SILENT_TRIES));
	if (result != SOSIE_CHILD_ANSWERED)
		return judge_end(c, q, result, err);
	c->answered = sosie_child_started(c->child);
	int rc = charge(c, q, err);
	return rc ? rc : judge_code(c, q, m.word[CONFINED_WORD_CODE], err);
}

int confined_unpack(struct confined *c, const struct packed *p, void *plain, struct sosie_err *err)
{
	struct question q = {.what = "the payload of a record",
	                     .in = p->payload,
	                     .in_len = p->payload_len,
	                     .basis = p->basis,
	                     .basis_len = p->basis ? p->basis_len : 0};
	if (p->payload_len > CONFINED_IN || q.basis_len > SOSIE_RECORD_PLAIN_MAX ||
	    p->plain_len > SOSIE_RECORD_PLAIN_MAX)
		return sosie_err_set(err, SOSIE_ECORRUPT, "record of an impossible length");
	if (p->basis_len && !p->basis)
		return sosie_err_set(err, SOSIE_EINTERNAL, "a patch or delta is decoded without its basis");
	q.m.word[CONFINED_WORD_OP] = CONFINED_UNPACK;
	q.m.word[CONFINED_WORD_LEN] = (uint32_t)p->payload_len;
	q.m.word[CONFINED_WORD_KIND] = p->kind;
	q.m.word[CONFINED_WORD_ENCODING] = p->encoding;
	q.m.word[CONFINED_WORD_BASIS_LEN] = (uint32_t)q.basis_len;
	q.m.word[CONFINED_WORD_PLAIN_LEN] = (uint32_t)p->plain_len;
	int rc = ask(c, &q, err);
	if (!rc)
		sosie_child_take(c->child, offsetof(struct confined_area, out.plain), plain, p->plain_len);
	return rc;
}

/* A kind of text: the bytes of its summary before the lists, and how many are used, by what those say: never
 * fewer than these, never more than a summary has. */
struct reading {
	enum confined_op op;
	const char *what;
	size_t header;
	size_t (*used)(const void *header);
};

static size_t at_most(size_t count, size_t max, size_t item)
{
	return (count < max ? count : max) * item;
}

static size_t manifest_used(const void *header)
{
	const struct manifest_summary *s = header;
	if (s->ask_count)
		return offsetof(struct manifest_summary, asks) +
		       at_most(s->ask_count, MANIFEST_ASKS_MAX, sizeof(*s->asks));
	return offsetof(struct manifest_summary, parts) +
	       at_most(s->part_count, SOSIE_PARTS_MAX, sizeof(*s->parts));
}

static size_t same_used(const void *header)
{
	const struct same_summary *s = header;
	return offsetof(struct same_summary, groups) + at_most(s->count, SAME_GROUPS, sizeof(*s->groups));
}

static const struct reading manifests = {.op = CONFINED_MANIFEST,
                                         .what = "the manifest",
                                         .header = offsetof(struct manifest_summary, volumes),
                                         .used = manifest_used};
static const struct reading sames = {.op = CONFINED_SAME,
                                     .what = "the \"same\" message",
                                     .header = offsetof(struct same_summary, groups),
                                     .used = same_used};

/* The summary as far as it is used, malloc'd. Its header is taken once: what the child makes of it later
 * changes nothing. */
static int take_summary(const struct confined *c, const struct reading *r, void **out, struct sosie_err *err)
{
	const size_t at = offsetof(struct confined_area, out);
	uint8_t *header = malloc(r->header), *whole;
	size_t used;
	*out = NULL;
	if (!header)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to read %s", r->what);
	sosie_child_take(c->child, at, header, r->header);
	used = r->used(header);
	whole = realloc(header, used);
	if (!whole) {
		free(header);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to read %s", r->what);
	}
	sosie_child_take(c->child, at + r->header, whole + r->header, used - r->header);
	*out = whole;
	return 0;
}

static int summarise(struct confined *c, const struct reading *r, const void *text, size_t len, void **out,
                     struct sosie_err *err)
{
	struct question q = {.what = r->what, .in = text, .in_len = len};
	*out = NULL;
	if (len > CONFINED_IN)
		return sosie_err_set(err, SOSIE_ECORRUPT, "%s is longer than 1 MiB", r->what);
	q.m.word[CONFINED_WORD_OP] = r->op;
	q.m.word[CONFINED_WORD_LEN] = (uint32_t)len;
	int rc = ask(c, &q, err);
	return rc ? rc : take_summary(c, r, out, err);
}

int confined_manifest(struct confined *c, const void *text, size_t len, struct sosie_manifest *out,
                      struct sosie_err *err)
{
	void *summary;
	memset(out, 0, sizeof(*out));
	int rc = summarise(c, &manifests, text, len, &summary, err);
	if (!rc)
		rc = manifest_of_summary(summary, out, err);
	if (!rc)
		rc = manifest_is_text(out, text, len, err);
	if (rc)
		sosie_manifest_fini(out);
	free(summary);
	return rc;
}

int confined_same(struct confined *c, const void *text, size_t len, struct same_said *out,
                  struct sosie_err *err)
{
	void *summary;
	memset(out, 0, sizeof(*out));
	int rc = summarise(c, &sames, text, len, &summary, err);
	if (!rc)
		rc = same_judge(summary, out, err);
	free(summary);
	return rc;
}

/* --- children and their home
 * ----------------------------------------------------------------------------------- */

int confined_home_new(const struct confined_kind *kind, struct confined_home **out, struct sosie_err *err)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for children");
	(*out)->kind = kind;
	sosie_json_ready(); /* no child can open the system's randomness */
	return 0;
}

static void free_one(struct confined *c)
{
	sosie_child_free(c->child);
	free(c);
}

/* Ends those behind *from. */
static void drop_behind(struct confined_home *home, struct confined **from)
{
	while (*from) {
		struct confined *c = *from;
		*from = c->next;
		home->count--;
		free_one(c);
	}
}

void confined_home_free(struct confined_home *home)
{
	if (!home)
		return;
	drop_behind(home, &home->idle);
	free(home);
}

void confined_home_rest(struct confined_home *home, int64_t now_ms)
{
	struct confined **at = &home->idle;
	while (*at && now_ms - (*at)->used_ms <= CONFINED_REST_MS)
		at = &(*at)->next;
	drop_behind(home, at);
}

unsigned confined_home_idle(const struct confined_home *home)
{
	return home->count;
}

static int make_one(struct confined_home *home, const char *tenant, struct confined **out,
                    struct sosie_err *err)
{
	struct confined *c = calloc(1, sizeof(*c));
	int rc = c ? sosie_name_set(&c->tenant, SOSIE_NAME_TENANT, tenant, err)
	           : sosie_err_set(err, SOSIE_ENOMEM, "no memory for a child");
	if (!rc)
		rc = sosie_child_new(&home->kind->child, &c->child, err);
	if (rc) {
		free(c);
		return rc;
	}
	c->kind = home->kind;
	*out = c;
	return 0;
}

int confined_get(struct confined_home *home, const char *tenant, struct confined **out, struct sosie_err *err)
{
	struct confined **at = &home->idle;
	*out = NULL;
	while (*at && strcmp((*at)->tenant.s, tenant) != 0)
		at = &(*at)->next;
	if (!*at)
		return make_one(home, tenant, out, err);
	*out = *at;
	*at = (*out)->next;
	home->count--;
	return 0;
}

void confined_put(struct confined_home *home, struct confined *c, int64_t now_ms)
{
	if (!c)
		return;
	if (sosie_child_pid(c->child) == 0 || c->answered != sosie_child_started(c->child)) {
		free_one(c); /* nothing to keep, or it may still hold locks of ours */
		return;
	}
	c->used_ms = now_ms;
	c->next = home->idle;
	home->idle = c;
	home->count++;
	struct confined **at = &home->idle;
	for (unsigned i = 0; i < CONFINED_IDLE && *at; i++)
		at = &(*at)->next;
	drop_behind(home, at);
}

void confined_start(struct confined *c)
{
	(void)sosie_child_start(c->child);
}

void confined_end(struct confined *c)
{
	sosie_child_end(c->child);
}

int64_t confined_cpu_ns(const struct confined *c)
{
	return sosie_child_cpu_ns(c->child);
}

pid_t confined_pid(const struct confined *c)
{
	return sosie_child_pid(c->child);
}

uint64_t confined_started(const struct confined *c)
{
	return sosie_child_started(c->child);
}

/* SPDX-License-Identifier: MIT */
/*
 * The YAML side of the configuration. The file is walked first as libyaml's events, against the schema that
 * libcyaml then loads it by: libcyaml knows no line of a value and counts keys a line early, so the walk is
 * what finds and places every fault of shape, and the load that follows has none left to find. Both are
 * bounded: the file by its size, the walk by the schema's depth, and aliases are refused, so that nothing
 * expands.
 */
#include <cyaml/cyaml.h>
#include <yaml.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/config/yaml.h"
#include "sosie/segment.h"

/* --- schema --------------------------------------------------------------------------------------------- */

#define NEEDED(key, type, member)                                                                            \
	CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER, type, member, 1, CONFIG_VALUE_MAX)
#define MAY(key, type, member)                                                                               \
	CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, type, member, 1,               \
	                       CONFIG_VALUE_MAX)

static const cyaml_schema_field_t standby_fields[] = {
        NEEDED("name", struct config_raw_standby, name),
        NEEDED("to", struct config_raw_standby, to),
        MAY("identity", struct config_raw_standby, identity),
        NEEDED("known_hosts", struct config_raw_standby, known_hosts),
        MAY("signing", struct config_raw_standby, signing),
        MAY("standby_key", struct config_raw_standby, standby_key),
        MAY("cycles", struct config_raw_standby, cycles),
        CYAML_FIELD_END,
};
static const cyaml_schema_value_t standby_entry = {
        CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct config_raw_standby, standby_fields),
};
static const cyaml_schema_field_t volume_fields[] = {
        MAY("name", struct config_raw_volume, name),
        NEEDED("path", struct config_raw_volume, path),
        MAY("opaque", struct config_raw_volume, opaque),
        CYAML_FIELD_END,
};
static const cyaml_schema_value_t volume_entry = {
        CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct config_raw_volume, volume_fields),
};
static const cyaml_schema_value_t attach_entry = {
        CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 1, CONFIG_VALUE_MAX),
};
static const cyaml_schema_field_t group_fields[] = {
        NEEDED("name", struct config_raw_group, name),
        NEEDED("standby", struct config_raw_group, standby),
        MAY("source", struct config_raw_group, source),
        MAY("interval", struct config_raw_group, interval),
        MAY("max_stall", struct config_raw_group, max_stall),
        MAY("on_long_cut", struct config_raw_group, on_long_cut),
        MAY("pause", struct config_raw_group, pause),
        MAY("rpo", struct config_raw_group, rpo),
        CYAML_FIELD_SEQUENCE_COUNT("volumes", CYAML_FLAG_POINTER, struct config_raw_group, volumes,
                                   volumes_count, &volume_entry, 1, SOSIE_VOLUMES_MAX),
        CYAML_FIELD_SEQUENCE_COUNT("attach", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
                                   struct config_raw_group, attach, attach_count, &attach_entry, 0,
                                   CONFIG_ATTACH_MAX),
        MAY("streams", struct config_raw_group, streams),
        MAY("level", struct config_raw_group, level),
        MAY("read_rate", struct config_raw_group, read_rate),
        MAY("accept_wait", struct config_raw_group, accept_wait),
        MAY("freeze", struct config_raw_group, freeze),
        MAY("thaw", struct config_raw_group, thaw),
        MAY("freeze_limit", struct config_raw_group, freeze_limit),
        MAY("view", struct config_raw_group, view),
        MAY("view_done", struct config_raw_group, view_done),
        MAY("hook_limit", struct config_raw_group, hook_limit),
        CYAML_FIELD_END,
};
static const cyaml_schema_value_t group_entry = {
        CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct config_raw_group, group_fields),
};
static const cyaml_schema_field_t top_fields[] = {
        MAY("state", struct config_raw, state),
        MAY("view_space", struct config_raw, view_space),
        MAY("on_alarm", struct config_raw, on_alarm),
        MAY("alarm_repeat", struct config_raw, alarm_repeat),
        MAY("metrics", struct config_raw, metrics),
        MAY("read_rate", struct config_raw, read_rate),
        CYAML_FIELD_SEQUENCE_COUNT("standbys", CYAML_FLAG_POINTER, struct config_raw, standbys,
                                   standbys_count, &standby_entry, 1, CONFIG_STANDBYS_MAX),
        CYAML_FIELD_SEQUENCE_COUNT("groups", CYAML_FLAG_POINTER, struct config_raw, groups, groups_count,
                                   &group_entry, 1, CONFIG_GROUPS_MAX),
        CYAML_FIELD_END,
};
static const cyaml_schema_value_t top_value = {
        CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct config_raw, top_fields),
};
#define FIELDS_MAX 32u /* keys of one mapping, above what any has */
#define DEPTH_MAX 5u   /* what the schema allows: file, groups, a group, volumes, a volume */

/* --- walk ----------------------------------------------------------------------------------------------- */

/* A mapping or list that is open. */
struct frame {
	const cyaml_schema_value_t *schema;
	const cyaml_schema_field_t *key; /* mapping: the key whose value is next, NULL: a key is next */
	unsigned index;                  /* list: of the entry that is next */
	unsigned line;                   /* where it begins */
	unsigned seen[FIELDS_MAX];       /* mapping: line of each key, 0: not yet */
	size_t path_len;                 /* of the path of the mapping or list itself */
};
struct walk {
	const struct config_yaml *y;
	struct sosie_err *err;
	struct frame frames[DEPTH_MAX];
	unsigned depth;
	unsigned documents;
	char path[200];   /* of the value that is next, or was just read */
	const char *find; /* not NULL: looks for the line of this path, or of what holds it */
	unsigned found;
	size_t found_len;
};

static int wrong(const struct walk *w, unsigned line, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

static int wrong(const struct walk *w, unsigned line, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return sosie_err_set(w->err, SOSIE_ECONFIG, "%s:%u: %s", w->y->shown, line, text);
}

/* "groups[0].volumes" without its numbers and last part, for people: "a group", "the file". */
static const char *frame_word(const struct frame *f)
{
	if (f->schema == &standby_entry)
		return "an entry of standbys";
	if (f->schema == &group_entry)
		return "an entry of groups";
	return f->schema == &volume_entry ? "an entry of volumes" : "the file";
}

static struct frame *top_frame(struct walk *w)
{
	return w->depth ? &w->frames[w->depth - 1] : NULL;
}

static int unknown_key(const struct walk *w, const struct frame *f, const yaml_event_t *e, unsigned line)
{
	char quoted[64], list[300] = "";
	size_t len = 0;

	for (const cyaml_schema_field_t *field = f->schema->mapping.fields; field->key; field++)
		len += (size_t)snprintf(list + len, len < sizeof(list) ? sizeof(list) - len : 0, "%s%s",
		                        len ? ", " : "", field->key);
	return wrong(w, line, "\"%s\" is no key of %s: allowed are %s",
	             sosie_escape(quoted, sizeof(quoted), e->data.scalar.value, e->data.scalar.length),
	             frame_word(f), list);
}

static int take_key(struct walk *w, struct frame *f, const yaml_event_t *e, unsigned line)
{
	unsigned i = 0;

	if (e->type != YAML_SCALAR_EVENT)
		return wrong(w, line, "a key must be a word, not a list or keys");
	for (const cyaml_schema_field_t *field = f->schema->mapping.fields; field->key; field++, i++) {
		if (strlen(field->key) != e->data.scalar.length ||
		    memcmp(field->key, e->data.scalar.value, e->data.scalar.length) != 0)
			continue;
		if (f->seen[i])
			return wrong(w, line, "%s: given twice, first in line %u: keep one", field->key,
			             f->seen[i]);
		f->seen[i] = line;
		f->key = field;
		snprintf(w->path + f->path_len, sizeof(w->path) - f->path_len, "%s%s", f->path_len ? "." : "",
		         field->key);
		return 0;
	}
	return unknown_key(w, f, e, line);
}

/* The schema of the value that is next; the path is set to it. */
static const cyaml_schema_value_t *next_schema(struct walk *w)
{
	struct frame *f = top_frame(w);

	if (!f)
		return &top_value;
	if (f->schema->type == CYAML_MAPPING)
		return &f->key->value;
	snprintf(w->path + f->path_len, sizeof(w->path) - f->path_len, "[%u]", f->index);
	return f->schema->sequence.entry;
}

static void value_done(struct walk *w)
{
	struct frame *f = top_frame(w);

	if (f && f->schema->type == CYAML_MAPPING)
		f->key = NULL;
	else if (f)
		f->index++;
}

static const char *last_key(const struct walk *w)
{
	const char *dot = strrchr(w->path, '.');

	return dot ? dot + 1 : w->path;
}

static int wrong_kind(const struct walk *w, const cyaml_schema_value_t *schema, unsigned line)
{
	if (!w->depth)
		return wrong(w, line, "the file must hold \"key: value\" lines: see sosie.yaml(5)");
	if (schema->type == CYAML_SEQUENCE)
		return wrong(w, line, "%s: takes a list, each entry after \"- \" or all in brackets",
		             last_key(w));
	if (schema->type == CYAML_MAPPING)
		return wrong(w, line, "%s: takes \"key: value\" pairs", last_key(w));
	return wrong(w, line, "%s: takes one value, not a list or keys", last_key(w));
}

/* Plain words that YAML reads as nothing. */
static bool is_null(const yaml_event_t *e)
{
	static const char *const words[] = {"", "~", "null", "Null", "NULL"};
	const char *value = (const char *)e->data.scalar.value;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strlen(words[i]) == e->data.scalar.length &&
		    memcmp(words[i], value, e->data.scalar.length) == 0)
			return e->data.scalar.length == 0 || e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	return false;
}

static int take_scalar(struct walk *w, const cyaml_schema_value_t *schema, const yaml_event_t *e,
                       unsigned line)
{
	if (is_null(e))
		return wrong(w, line, "%s: no value: write one, or leave the key out", last_key(w));
	if (schema->type != CYAML_STRING || !w->depth)
		return wrong_kind(w, schema, line);
	if (e->data.scalar.length > CONFIG_VALUE_MAX)
		return wrong(w, line, "%s: %zu bytes: at most %u", last_key(w), e->data.scalar.length,
		             CONFIG_VALUE_MAX);
	if (memchr(e->data.scalar.value, '\0', e->data.scalar.length))
		return wrong(w, line, "%s: holds a NUL byte: no value may", last_key(w));
	value_done(w);
	return 0;
}

static int open_frame(struct walk *w, const cyaml_schema_value_t *schema, enum cyaml_type type, unsigned line)
{
	if (schema->type != type)
		return wrong_kind(w, schema, line);
	assert(w->depth < DEPTH_MAX);
	w->frames[w->depth++] = (struct frame){.schema = schema, .line = line, .path_len = strlen(w->path)};
	return 0;
}

static int close_mapping(struct walk *w, const struct frame *f)
{
	unsigned i = 0;

	for (const cyaml_schema_field_t *field = f->schema->mapping.fields; field->key; field++, i++)
		if (!f->seen[i] && !(field->value.flags & CYAML_FLAG_OPTIONAL))
			return wrong(w, f->line, "%s: missing: %s must have it", field->key, frame_word(f));
	return 0;
}

static int close_frame(struct walk *w)
{
	const struct frame *f = top_frame(w);
	unsigned line = f->line;
	int rc = 0;

	w->path[f->path_len] = '\0';
	if (f->schema->type == CYAML_MAPPING)
		rc = close_mapping(w, f);
	else if (f->index < f->schema->sequence.min)
		rc = wrong(w, line, "%s: an empty list: give at least %u", last_key(w),
		           f->schema->sequence.min);
	else if (f->index > f->schema->sequence.max)
		rc = wrong(w, line, "%s: %u entries: at most %u", last_key(w), f->index,
		           f->schema->sequence.max);
	w->depth--;
	value_done(w);
	return rc;
}

/* The longest beginning of the path looked for that has been met, whole parts only. */
static void look(struct walk *w, unsigned line)
{
	size_t len = strlen(w->path);
	char after = w->find && strncmp(w->find, w->path, len) == 0 ? w->find[len] : 'x';

	if (w->find && (after == '\0' || after == '.' || after == '[') && (!w->found || len > w->found_len)) {
		w->found = line;
		w->found_len = len;
	}
}

static int take_value(struct walk *w, const yaml_event_t *e, unsigned line)
{
	const cyaml_schema_value_t *schema = next_schema(w);

	look(w, line);
	switch (e->type) {
	case YAML_SCALAR_EVENT:
		return take_scalar(w, schema, e, line);
	case YAML_MAPPING_START_EVENT:
		return open_frame(w, schema, CYAML_MAPPING, line);
	case YAML_SEQUENCE_START_EVENT:
		return open_frame(w, schema, CYAML_SEQUENCE, line);
	default:
		return wrong(w, line, "%s: an alias: write the value itself",
		             w->depth ? last_key(w) : "the file");
	}
}

static int take_event(struct walk *w, const yaml_event_t *e)
{
	unsigned line = (unsigned)e->start_mark.line + 1;
	struct frame *f = top_frame(w);

	switch (e->type) {
	case YAML_MAPPING_END_EVENT:
	case YAML_SEQUENCE_END_EVENT:
		return close_frame(w);
	case YAML_SCALAR_EVENT:
	case YAML_MAPPING_START_EVENT:
	case YAML_SEQUENCE_START_EVENT:
	case YAML_ALIAS_EVENT:
		if (f && f->schema->type == CYAML_MAPPING && !f->key)
			return take_key(w, f, e, line);
		return take_value(w, e, line);
	case YAML_DOCUMENT_START_EVENT:
		return w->documents++ ? wrong(w, line, "a second document: one file holds one configuration")
		                      : 0;
	default:
		return 0;
	}
}

static bool line_has_tab(const struct config_yaml *y, unsigned line)
{
	unsigned at = 1;

	for (size_t i = 0; i < y->len && at <= line; i++) {
		if (at == line && y->text[i] == '\t')
			return true;
		at += y->text[i] == '\n';
	}
	return false;
}

static int parser_error(const struct walk *w, const yaml_parser_t *parser)
{
	unsigned line = (unsigned)parser->problem_mark.line + 1;
	bool tab = line_has_tab(w->y, line) || (line > 1 && line_has_tab(w->y, line - 1));
	char begun[120] = "";

	if (parser->error == YAML_MEMORY_ERROR)
		return sosie_err_set(w->err, SOSIE_ENOMEM, "no memory to read %s", w->y->shown);
	if (parser->context)
		snprintf(begun, sizeof(begun), ", %s from line %u on", parser->context,
		         (unsigned)parser->context_mark.line + 1);
	return wrong(w, line, "no valid YAML: %s%s%s", parser->problem ? parser->problem : "cannot be read",
	             begun, tab ? ": indent with spaces, not tabs" : "");
}

/* Whether an event opens (1) or closes (-1) a mapping or list. */
static int nesting(const yaml_event_t *e)
{
	if (e->type == YAML_MAPPING_START_EVENT || e->type == YAML_SEQUENCE_START_EVENT)
		return 1;
	return e->type == YAML_MAPPING_END_EVENT || e->type == YAML_SEQUENCE_END_EVENT ? -1 : 0;
}

/*
 * Runs over all events to the end or the first fault. check false: only whether it is YAML, and no deeper
 * than anything that the schema could take, as a document that is nested without end would cost time without
 * end.
 */
static int run(struct walk *w, bool check)
{
	yaml_parser_t parser;
	yaml_event_t event;
	bool end = false;
	int rc = 0, depth = 0;

	if (!yaml_parser_initialize(&parser))
		return sosie_err_set(w->err, SOSIE_ENOMEM, "no memory to read %s", w->y->shown);
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, (const unsigned char *)w->y->text, w->y->len);
	while (rc == 0 && !end) {
		if (!yaml_parser_parse(&parser, &event)) {
			rc = parser_error(w, &parser);
			break;
		}
		depth += nesting(&event);
		end = event.type == YAML_STREAM_END_EVENT || (!check && depth > (int)DEPTH_MAX);
		if (check)
			rc = take_event(w, &event);
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
	return rc;
}

/* Syntax first: what is indented wrongly would else be told as something that is missing. */
static int check_shape(const struct config_yaml *y, struct sosie_err *err)
{
	struct walk w = {.y = y, .err = err};
	int rc = run(&w, false);

	if (rc == 0)
		rc = run(&w, true);
	if (rc == 0 && !w.documents)
		rc = wrong(&w, 1, "the file is empty: see sosie.yaml(5)");
	return rc;
}

unsigned config_yaml_line(const struct config_yaml *y, const char *path)
{
	struct sosie_err ignored;
	struct walk w = {.y = y, .err = &ignored, .find = path};

	run(&w, true);
	return w.found ? w.found : 1;
}

/* --- file ----------------------------------------------------------------------------------------------- */

/* The length of the UTF-8 sequence at the beginning of s (RFC 3629), 0 when there is none. */
static size_t utf8_sequence(const unsigned char *s, size_t len)
{
	size_t n = s[0] < 0x80                   ? 1
	           : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
	           : (s[0] & 0xf0) == 0xe0       ? 3
	           : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
	                                         : 0;

	if (!n || n > len)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90))
		return 0;
	return n;
}

static int check_text(const struct config_yaml *y, struct sosie_err *err)
{
	const struct walk w = {.y = y, .err = err};
	const unsigned char *text = (const unsigned char *)y->text;
	unsigned line = 1;

	for (size_t i = 0; i < y->len;) {
		size_t n = utf8_sequence(text + i, y->len - i);

		if (!n)
			return wrong(&w, line, "byte \\x%02X is no UTF-8: save the file as UTF-8", text[i]);
		if ((text[i] < 0x20 && !strchr("\t\n\r", text[i])) || !text[i] || text[i] == 0x7f)
			return wrong(&w, line, "a control character (\\x%02X): remove it", text[i]);
		line += text[i] == '\n';
		i += n;
	}
	return 0;
}

/* It names commands that run as this user: nobody else but root may have a say in it. */
static int check_writers(const struct config_yaml *y, const struct stat *st, struct sosie_err *err)
{
	if (st->st_uid != 0 && st->st_uid != geteuid()) {
		sosie_err_set(err, SOSIE_ECONFIG,
		              "%s: belongs to user %lu, and it names commands that run as user %lu", y->shown,
		              (unsigned long)st->st_uid, (unsigned long)geteuid());
		return sosie_err_action(err, "run \"chown %lu %s\" when its content is as it should be",
		                        (unsigned long)geteuid(), y->shown);
	}
	if (st->st_mode & (S_IWGRP | S_IWOTH)) {
		sosie_err_set(err, SOSIE_ECONFIG,
		              "%s: %s may write it, and it names commands that run as user %lu", y->shown,
		              st->st_mode & S_IWOTH ? "everybody" : "its group", (unsigned long)geteuid());
		return sosie_err_action(err, "run \"chmod 600 %s\" when its content is as it should be",
		                        y->shown);
	}
	return 0;
}

/* What may be opened as a configuration at all. */
static int check_file(const struct config_yaml *y, const struct stat *st, struct sosie_err *err)
{
	int rc;

	if (!S_ISREG(st->st_mode))
		return sosie_err_set(err, SOSIE_ECONFIG, "%s: %s: the configuration must be a regular file",
		                     y->shown,
		                     S_ISDIR(st->st_mode) ? "is a folder" : "is a device, socket or pipe");
	rc = check_writers(y, st, err);
	if (rc != 0)
		return rc;
	if (st->st_size > (off_t)CONFIG_FILE_MAX)
		return sosie_err_set(err, SOSIE_ECONFIG, "%s: %lld bytes: at most %u", y->shown,
		                     (long long)st->st_size, CONFIG_FILE_MAX);
	return 0;
}

/* At most one byte above the limit is read: a file that grows meanwhile is refused, not read for ever. */
static int read_all(struct config_yaml *y, int fd, struct sosie_err *err)
{
	y->text = malloc(CONFIG_FILE_MAX + 2);
	if (!y->text)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to read %s", y->shown);
	while (y->len <= CONFIG_FILE_MAX) {
		ssize_t n = read(fd, y->text + y->len, CONFIG_FILE_MAX + 1 - y->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return sosie_err_set(err, SOSIE_ECONFIG, "%s: cannot be read: %s", y->shown,
			                     strerror(errno));
		if (n == 0)
			break;
		y->len += (size_t)n;
	}
	y->text[y->len] = '\0';
	if (y->len > CONFIG_FILE_MAX)
		return sosie_err_set(err, SOSIE_ECONFIG, "%s: above %u bytes", y->shown, CONFIG_FILE_MAX);
	return 0;
}

static int read_file(struct config_yaml *y, const char *path, struct sosie_err *err)
{
	/* Not blocking: a pipe without a writer is to be refused, not waited for. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), rc;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0) {
		rc = sosie_err_set(err, SOSIE_ECONFIG, "%s: cannot be opened: %s", y->shown, strerror(errno));
		goto close_file;
	}
	rc = check_file(y, &st, err);
	if (rc == 0)
		rc = read_all(y, fd, err);
	if (rc == 0)
		rc = check_text(y, err);
close_file:
	if (fd >= 0)
		close(fd);
	return rc;
}

/* --- load ----------------------------------------------------------------------------------------------- */

/* Keeps the first thing that libcyaml says, for the case that it finds what the walk did not. */
__attribute__((format(printf, 3, 0))) static void keep_first(cyaml_log_t level, void *context,
                                                             const char *fmt, va_list args)
{
	char *text = context;

	(void)level;
	if (!text[0]) {
		vsnprintf(text, 200, fmt, args);
		text[strcspn(text, "\n")] = '\0';
	}
}

static cyaml_config_t settings(char *said)
{
	return (cyaml_config_t){
	        .log_fn = said ? keep_first : NULL,
	        .log_ctx = said,
	        .mem_fn = cyaml_mem,
	        .log_level = CYAML_LOG_ERROR,
	        .flags = CYAML_CFG_NO_ALIAS,
	};
}

static int load_raw(struct config_yaml *y, struct sosie_err *err)
{
	char said[200] = "";
	cyaml_config_t config = settings(said);
	cyaml_data_t *data = NULL;
	cyaml_err_t rc = cyaml_load_data((const uint8_t *)y->text, y->len, &config, &top_value, &data, NULL);

	if (rc == CYAML_ERR_OOM)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory to read %s", y->shown);
	if (rc != CYAML_OK || !data)
		return sosie_err_set(err, SOSIE_ECONFIG, "%s: not understood: %s", y->shown,
		                     said[0] ? said : cyaml_strerror(rc));
	y->raw = data;
	return 0;
}

static void set_shown(struct config_yaml *y, const char *path)
{
	size_t len = strlen(path), room = sizeof(y->shown) - 1;

	if (len <= room)
		memcpy(y->shown, path, len + 1);
	else
		snprintf(y->shown, sizeof(y->shown), "...%s", path + len - (room - 3));
}

int config_yaml_load(const char *path, struct config_yaml **out, struct sosie_err *err)
{
	struct config_yaml *y = calloc(1, sizeof(*y));
	int rc;

	*out = NULL;
	if (!y)
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for the configuration");
	set_shown(y, path);
	rc = read_file(y, path, err);
	if (rc == 0)
		rc = check_shape(y, err);
	if (rc == 0)
		rc = load_raw(y, err);
	if (rc != 0)
		config_yaml_free(y);
	else
		*out = y;
	return rc;
}

void config_yaml_free(struct config_yaml *y)
{
	cyaml_config_t config = settings(NULL);

	if (!y)
		return;
	if (y->raw)
		cyaml_free(&config, &top_value, y->raw, 0);
	free(y->text);
	free(y);
}

#include "document_index.h"

#include <memory>
#include <new>

#include <simdjson.h>

static_assert(DOCUMENT_INDEX_PADDING_BYTES >= simdjson::SIMDJSON_PADDING, "simdjson reads that far");

struct document_index {
    std::unique_ptr<simdjson::internal::dom_parser_implementation> parser;
};

struct document_index *document_index_new(uint32_t limit_bytes)
{
    std::unique_ptr<document_index> index(new (std::nothrow) document_index);
    if (!index)
        return nullptr;
    const simdjson::implementation *fastest = simdjson::get_active_implementation();
    if (fastest->create_dom_parser_implementation(limit_bytes, 1, index->parser) != simdjson::SUCCESS)
        return nullptr;
    return index.release();
}

void document_index_free(struct document_index *index)
{
    delete index;
}

/* simdjson may see another error first: what isn't UTF-8 is always called that. */
static enum document_index_error name_error(simdjson::error_code error, const char *bytes, uint32_t length)
{
    if (error == simdjson::UTF8_ERROR || !simdjson::validate_utf8(bytes, length))
        return DOCUMENT_INDEX_NOT_UTF8;
    if (error == simdjson::UNCLOSED_STRING)
        return DOCUMENT_INDEX_OPEN_STRING;
    return error == simdjson::UNESCAPED_CHARS ? DOCUMENT_INDEX_CONTROL_BYTE : DOCUMENT_INDEX_NO_TOKEN;
}

enum document_index_error document_index_build(struct document_index *index, const char *bytes,
                                               uint32_t length)
{
    const uint8_t *buffer = reinterpret_cast<const uint8_t *>(bytes);
    simdjson::error_code error = index->parser->stage1(buffer, length, simdjson::stage1_mode::regular);
    if (error != simdjson::SUCCESS)
        return name_error(error, bytes, length);
    index->parser->structural_indexes[index->parser->n_structural_indexes] = length;
    return DOCUMENT_INDEX_OK;
}

const uint32_t *document_index_offsets(const struct document_index *index)
{
    return index->parser->structural_indexes.get();
}

bool document_index_is_utf8(const char *bytes, uint32_t length)
{
    return simdjson::validate_utf8(bytes, length);
}

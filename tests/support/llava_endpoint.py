"""A LLaVA in a folder, served over the protocol of OpenAI: `serving_chat(answers(llava))`."""

import base64
import io

from PIL import Image

from tests.support.chat_server import completion


def answers(llava):
    """Return what answers the body of a request with the model's own answer about its last picture."""

    def answer(body):
        *pictures, text = body["messages"][-1]["content"]
        _, _, encoded = pictures[-1]["image_url"]["url"].partition(",")
        picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
        before = llava.use.tokens_in, llava.use.tokens_out
        [said] = llava.answer([picture], text["text"], body["max_tokens"])
        used = llava.use.tokens_in - before[0], llava.use.tokens_out - before[1]
        return completion(said, usage={"prompt_tokens": used[0], "completion_tokens": used[1]})

    return answer
